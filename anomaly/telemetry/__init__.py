"""What operators see: logs (`logs`) and metrics (`collector`)."""
