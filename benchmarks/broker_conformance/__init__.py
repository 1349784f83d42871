"""What this project needs of an MQTT broker, tried one by one."""
