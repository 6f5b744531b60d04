#!/usr/bin/env bash
# Trains on a slice of spot TPU machines, and requests the slice again when it is taken away.
#
#   ZONE=us-east5-a TYPE=v5p-128 RUNTIME=v2-alpha-tpuv5 NFS=10.0.0.2:/runs \
#     tpu_slice.sh NAME experiments/dvao_mathematics_4b.py --set mesh.fsdp=16
#
# NAME is that of the slice and of the run. TYPE counts cores for v5p (v5p-128 has 64 chips) and
# chips for v5litepod and v6e; RUNTIME is v2-alpha-tpuv5-lite for v5e and v2-alpha-tpuv6e for v6e.
# NFS is a Filestore share in the slice's network, for the runs: all hosts write checkpoints there.
# pip installs SOURCE, by default the directory /mnt/runs/dvaojax of that share.
set -uo pipefail
: "${ZONE:?}" "${TYPE:?}" "${RUNTIME:?}" "${NFS:?}"
source=${SOURCE:-/mnt/runs/dvaojax}
name=${1:?the name of the slice and of the run}
shift

tpus() { gcloud compute tpus "$@" --zone="$ZONE"; }
state() { tpus queued-resources describe "$name" --format="value(state.state)"; }
on_all_hosts() { tpus tpu-vm ssh "$name" --worker=all --command="$1"; }
release() { tpus queued-resources delete "$name" --force --quiet; }
say() { echo "tpu_slice.sh: $*" >&2; }

setup="sudo mkdir -p /mnt/runs && { mountpoint -q /mnt/runs || sudo mount -t nfs $NFS /mnt/runs; } && \
python3 -m venv ~/dvaojax && ~/dvaojax/bin/pip install --quiet '$source[tpu,hf,data]'"
arguments=$(printf '%q ' --name "$name" --runs /mnt/runs --distributed --resume=auto "$@")
train="cd $source && bash experiments/pods/restart.sh ~/dvaojax/bin/dvaojax train $arguments"

while :; do
  tpus queued-resources create "$name" --node-id="$name" --accelerator-type="$TYPE" \
    --runtime-version="$RUNTIME" --spot || exit 1
  until [ "$(state)" = ACTIVE ]; do
    case $(state) in
      FAILED | SUSPENDED) say "the request ended as $(state)"; release; exit 1 ;;
    esac
    sleep "${POLL_SECONDS:-30}"
  done
  on_all_hosts "$setup" && on_all_hosts "$train"
  code=$?
  if [ "$code" -eq 0 ]; then
    say "finished"
    release
    exit 0
  fi
  if [ "$(state)" = ACTIVE ]; then
    say "exit code $code on a slice that is still there, which costs until it is deleted: see above"
    exit "$code"
  fi
  say "the slice was taken away; requesting another one"
  release
done
