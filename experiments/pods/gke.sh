#!/usr/bin/env bash
# Trains on TPU slices of a GKE cluster, by XPK (https://github.com/AI-Hypercomputer/xpk).
#
#   PROJECT=mine ZONE=us-east5-a CLUSTER=tpus TYPE=v5p-128 IMAGE=REGISTRY/dvaojax \
#     RUNS=gs://BUCKET/runs gke.sh NAME experiments/dvao_mathematics_4b.py --set mesh.fsdp=16
#
# IMAGE has the project in /dvaojax with its extras tpu, gcs, hf and data installed. RUNS is in a
# bucket that the pods may write. Instead of it, STORAGE=runs selects a Filestore instance that was
# attached once, with --mount-point=/mnt/runs:
#
#   xpk storage create runs --type=gcpfilestore --mount-point=/mnt/runs --readonly=false \
#     --auto-mount=false --size=1024 --tier=BASIC_SSD --vol=default \
#     --project=PROJECT --zone=ZONE --cluster=CLUSTER
set -euo pipefail
: "${PROJECT:?}" "${ZONE:?}" "${CLUSTER:?}" "${TYPE:?}" "${IMAGE:?}" "${RUNS:=${STORAGE:+/mnt/runs}}"
: "${RUNS:?gs://BUCKET/runs, or STORAGE}"
name=${1:?the name of the workload and of the run}
shift

arguments=$(printf '%q ' --name "$name" --runs "$RUNS" --distributed --resume=auto "$@")
xpk workload create \
  --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" \
  --workload="$name" --tpu-type="$TYPE" --num-slices="${SLICES:-1}" \
  --docker-image="$IMAGE" ${STORAGE:+--storage="$STORAGE"} \
  --max-restarts=50 --restart-on-exit-codes=75 \
  --command="cd /dvaojax && bash experiments/pods/restart.sh dvaojax train $arguments"
