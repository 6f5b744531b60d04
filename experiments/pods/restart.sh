#!/usr/bin/env bash
# Runs a command again while it ends with exit code 75, "start me again".
#
#   restart.sh dvaojax train --distributed --resume=auto
#
# SIGTERM is passed on to the command, which saves and ends with 75; it is then not started again.
set -uo pipefail

stopped=0
trap 'stopped=1; kill -TERM "$child" 2>/dev/null' TERM
while :; do
  "$@" &
  child=$!
  wait "$child"
  code=$?
  if [ "$stopped" = 1 ]; then
    wait "$child"
    exit $?
  fi
  [ "$code" -eq 75 ] || exit "$code"
  sleep "${RESTART_SECONDS:-5}"
done
