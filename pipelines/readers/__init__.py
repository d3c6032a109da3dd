"""Images of patients, read safely: one module a format, one `Volume` for all of them."""
