"""Where flags begin: one module for each way of choosing it. All are fixed before the month is seen."""
