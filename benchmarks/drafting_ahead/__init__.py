"""Drafting ahead by measurement, against every fixed window and block length."""
