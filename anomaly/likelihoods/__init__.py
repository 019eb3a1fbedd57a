"""Distributions that a forecast is made of, and the scales they live on."""
