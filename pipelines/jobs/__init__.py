"""Jobs: each a function of the services it leans on and of what was asked."""
