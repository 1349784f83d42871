"""What a verified token costs on the wire: plain, packed, and the lower bound."""
