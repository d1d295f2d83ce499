#!/bin/sh
# Makes the secret files of deploy/compose.yaml, with random passwords; what is there already stays as it is.
#
# Compose hands files to containers as they are, and each service runs as a user of its own: the files are readable for
# everybody, their folder is not.
set -eu
umask 077
folder=$(dirname "$0")/secrets
mkdir -p "$folder"

password() { od -An -N 24 -t x1 /dev/urandom | tr -d ' \n'; }
keep() { # name, text
  [ -e "$folder/$1" ] || printf '%s' "$2" > "$folder/$1"
  chmod 0644 "$folder/$1"
}

keep admin_password "$(password)"
keep grafana_admin_password "$(password)"
keep application_dsn "host=source dbname=shop user=shop password=$(password)"
keep source__dsn "host=source dbname=shop user=crossfade password=$(password)"
keep target__dsn "host=target dbname=shop user=crossfade password=$(password)"
admin=$(cat "$folder/admin_password")
keep source_admin_dsn "host=source dbname=postgres user=postgres password=$admin"
keep target_admin_dsn "host=target dbname=postgres user=postgres password=$admin"
echo "Secrets are in $folder."
