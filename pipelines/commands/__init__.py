"""What the command line does: a module a group of commands. Heavy imports wait until a command needs them."""
