# Runs one service, and outlives whoever started it just long enough to stop it.
# Arguments: a directory to remove in the end (or nothing), the log, the signal that stops the service, the command.
# Standard input: signals to send, one a line. When it ends, the starter is gone. After the service's end, `keep`
# says that the starter takes care of the directory.
# Standard output: `pid N`, later `exit N`.
remove=$1
log=$2
stop=$3
shift 3
exec 3<&0 </dev/null 2>>"$log" || exit 1

"$@" >>"$log" 2>&1 3<&- &
service=$!
# Whoever reads may be gone: the directory is removed all the same.
trap '' PIPE
echo "pid $service"

(
    while read -r signal <&3; do
        kill -s "$signal" "$service"
    done
    for signal in "$stop" QUIT KILL; do
        kill -s "$signal" "$service" || exit
        tries=100
        while [ "$tries" -gt 0 ] && kill -0 "$service"; do
            sleep 0.1
            tries=$((tries - 1))
        done
    done
) >/dev/null 2>&1 &
watcher=$!

wait "$service"
status=$?
# From here on the service's number may be another process's: nobody may send it a signal any more.
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
echo "exit $status" 2>/dev/null
while read -r word <&3; do
    [ "$word" != keep ] || remove=
done
[ -z "$remove" ] || rm -rf -- "$remove"
