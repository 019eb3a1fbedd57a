"""Telling people: what a message says (`messages`), when (`timing`), and by what way (`channels`)."""
