"""Arrays in, numbers with standard errors out."""
