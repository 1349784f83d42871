"""How the device describes itself to Home Assistant, by device-based discovery over MQTT."""
