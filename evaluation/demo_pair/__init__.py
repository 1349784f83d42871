"""The recipe of the demo pair: a draft model and a target model with one tokenizer, trained on the smart-home
task.
"""
