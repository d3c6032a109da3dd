"""Data-set layouts: from a folder on disk to a split list of cases."""
