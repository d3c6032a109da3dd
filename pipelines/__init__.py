"""What happens around a bundle: data sets, tracking, evaluation, prediction and the command line."""
