"""What starts and ends: jobs, the schedule, the command line, the server."""
