"""What every service outside is asked through: deadlines, quota, breaker, one safe retry, warm connections, metrics."""
