#!/bin/bash
# healthcheck PORT PATH [STATUS]: succeeds when this container answers that path with that status (200), or, with `any`, at all.
# The images have no HTTP client; bash opens the connection itself.
set -eu
exec 3<>"/dev/tcp/127.0.0.1/$1"
printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
read -r -t 3 _ status _ <&3
[ "${3:-200}" = any ] || [ "$status" = "${3:-200}" ]
