#!/bin/sh
# Asks an agent over MQTT once, and prints the answer as JSON. It needs mosquitto-clients, and `edge-agent serve`.
#
#   examples/app_mqtt.sh kitchen "turn on the kitchen light" -h localhost -p 1883
#
# Flags after the prompt go to mosquitto_rr: -u, -P, --cafile ... The answer comes on a topic of this process alone
# (MQTT 5, response topic). A prompt may also be an ask in JSON: '{"prompt":"turn on the light","seed":7}'.
set -eu

topic=hlm/v1/app/$1 prompt=$2
shift 2
exec mosquitto_rr -q 1 -W 60 -t "$topic/ask" -e "$topic/reply/app-$$" -m "$prompt" "$@"
