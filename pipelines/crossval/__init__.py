"""Cross-validation: every case is scored by a network that neither trained on its patient nor was chosen on it."""
