"""What limits training on many GPUs: measured on local processes, and predicted for clusters."""
