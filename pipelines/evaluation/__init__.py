"""From predictions and references to scores, intervals and figures."""
