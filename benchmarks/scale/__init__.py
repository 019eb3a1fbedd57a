"""What a month costs: seconds, memory and bytes, beside what the machine can do in the same run."""
