"""What uncertainty says about rejection on one pair of models: measured, fitted, drawn, and as thresholds."""
