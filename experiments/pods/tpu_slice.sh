#!/usr/bin/env bash
# Trains on a slice of spot TPU machines, and requests the slice again when it is taken away.
#
#   ZONE=us-east5-a TYPE=v5p-128 RUNTIME=v2-alpha-tpuv5 \
#     RUNS=gs://BUCKET/runs SOURCE=gs://BUCKET/dvaojax \
#     tpu_slice.sh NAME experiments/dvao_mathematics_4b.py --set mesh.fsdp=16
#
# NAME is that of the slice and of the run. TYPE counts cores for v5p (v5p-128 has 64 chips) and
# chips for v5litepod and v6e; RUNTIME is v2-alpha-tpuv5-lite for v5e and v2-alpha-tpuv6e for v6e.
# RUNS is in a bucket that the slice's service account may write, and SOURCE a copy of the checkout
# in one. Instead of both, NFS=10.0.0.2:/runs is a Filestore share in the slice's network, with the
# checkout in its directory dvaojax.
set -uo pipefail
: "${ZONE:?}" "${TYPE:?}" "${RUNTIME:?}" "${RUNS:=${NFS:+/mnt/runs}}"
: "${RUNS:?gs://BUCKET/runs, or NFS}" "${SOURCE:=${NFS:+/mnt/runs/dvaojax}}" "${SOURCE:?}"
name=${1:?the name of the slice and of the run}
shift

tpus() { gcloud compute tpus "$@" --zone="$ZONE"; }
state() { tpus queued-resources describe "$name" --format="value(state.state)"; }
on_all_hosts() { tpus tpu-vm ssh "$name" --worker=all --command="$1"; }
release() { tpus queued-resources delete "$name" --force --quiet; }
say() { echo "tpu_slice.sh: $*" >&2; }

if [ -n "${NFS:-}" ]; then
  files="sudo mkdir -p /mnt/runs && \
{ mountpoint -q /mnt/runs || sudo mount -t nfs $NFS /mnt/runs; } && ln -sfn $SOURCE ~/source"
else
  files="mkdir -p ~/source && gcloud storage rsync --recursive $SOURCE ~/source"
fi
setup="$files && python3 -m venv ~/dvaojax && \
~/dvaojax/bin/pip install --quiet ~/source'[tpu,gcs,hf,data]'"
arguments=$(printf '%q ' --name "$name" --runs "$RUNS" --distributed --resume=auto "$@")
train="cd ~/source && bash experiments/pods/restart.sh ~/dvaojax/bin/dvaojax train $arguments"

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
