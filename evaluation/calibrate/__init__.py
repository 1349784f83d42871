"""How well uncertainty predicts rejection for a pair of models, and the thresholds that follow from it."""
