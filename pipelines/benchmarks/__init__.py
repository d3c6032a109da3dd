"""What the project claims about its speed, measured: each function runs what is compared in one go, in turns."""
