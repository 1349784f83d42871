"""The recipe of the demo pair: a draft and a target model with one tokenizer, for the smart-home task."""
