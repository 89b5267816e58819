#!/bin/sh
# Make the secrets that compose.yaml reads, each once: what is there already stays.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets
# The folder keeps other users of this host out; the files must be readable by the containers' users.
chmod 700 secrets
cd secrets

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -s "$1" ] || printf '%s\n' "$2" > "$1"; }

keep postgres_password "$(random)"
keep database_url "postgresql://llmserver:$(cat postgres_password)@postgres:5432/llmserver"
keep llmserver_secret_key "$(random)"
keep llmserver_key_pepper "$(random)"
keep grafana_password "$(random)"
