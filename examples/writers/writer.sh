#!/usr/bin/env bash
# Writes a run that Tracker's agent ships: a record stream (docs/record-format.md) with bash, awk and GNU coreutils.
#
#     bash writer.sh SPOOL RUN [STEPS [PAUSE_S]]
#
# About 10 ms a record; `tracker log` is the comfortable way. A shell cannot hold a POSIX lock, so there is no lock
# file: what is written is shipped all the same, but until EXIT nobody can tell that this process is alive.
# `tracker run -- bash writer.sh ...` can: it holds one for the run.
#
# Bytes are kept as hex digits, since a shell's variables cannot hold zeros. Functions leave their result in REPLY.
set -euo pipefail
export LC_ALL=C

readonly HEADER=0 METRICS=1 CONFIG=4 RUN=6 EXIT=9 LOST=13

# CRC-32 as zlib has it.

declare -a table
for ((n = 0; n < 256; n++)); do
    c=$n
    for ((bit = 0; bit < 8; bit++)); do c=$((c & 1 ? (c >> 1) ^ 0xEDB88320 : c >> 1)); done
    table[n]=$c
done

crc32() { # HEX [CRC SO FAR]
    local hex=$1 crc=$((${2:-0} ^ 0xFFFFFFFF)) i
    for ((i = 0; i < ${#hex}; i += 2)); do
        crc=$((table[(crc ^ 0x${hex:i:2}) & 0xFF] ^ (crc >> 8)))
    done
    REPLY=$((crc ^ 0xFFFFFFFF))
}

# msgpack.

int() { # INTEGER
    if (($1 >= 0 && $1 < 128)); then printf -v REPLY %02x "$1"; else printf -v REPLY d3%016x "$1"; fi
}

string() { # TEXT
    local i code hex=""
    for ((i = 0; i < ${#1}; i++)); do
        printf -v code %d "'${1:i:1}"
        printf -v hex '%s%02x' "$hex" $((code & 255))
    done
    if ((${#1} < 32)); then printf -v REPLY '%02x%s' $((0xa0 | ${#1})) "$hex"; else printf -v REPLY 'db%08x%s' ${#1} "$hex"; fi
}

float() { # NUMBER, nan, inf or -inf
    case $1 in
    nan) REPLY=cb7ff8000000000000 ;;
    inf) REPLY=cb7ff0000000000000 ;;
    -inf) REPLY=cbfff0000000000000 ;;
    *) # Divided and multiplied by 2 only, all of this is exact.
        REPLY=cb$(awk -v x="$1" 'BEGIN {
            x += 0; sign = 0; exponent = 1023
            if (x < 0) { x = -x; sign = 32768 }
            if (x == 0) exponent = 0
            while (x >= 2) { x /= 2; exponent++ }
            while (x < 1 && exponent > 0) { x *= 2; exponent-- }
            fraction = exponent > 0 ? x - 1 : x / 2
            fraction *= 16; bits = int(fraction); fraction -= bits
            printf "%04x", sign + exponent * 16 + bits
            for (i = 0; i < 3; i++) { fraction *= 65536; bits = int(fraction); fraction -= bits; printf "%04x", bits }
        }') ;;
    esac
}

bin() { # HEX, in the shortest form, which a line must have around its body
    local size=$((${#1} / 2))
    if ((size < 0x100)); then printf -v REPLY 'c4%02x%s' $size "$1"
    elif ((size < 0x10000)); then printf -v REPLY 'c5%04x%s' $size "$1"
    else printf -v REPLY 'c6%08x%s' $size "$1"; fi
}

# Append to the record that is being made: array 3; int 7; string loss; float 0.5 ...
body=""
add() { "$@"; body+=$REPLY; }
array() { printf -v REPLY dc%04x "$1"; }
map() { printf -v REPLY de%04x "$1"; }
nil() { REPLY=c0; }

# The stream.

uptime_ns() {
    local seconds
    read -r seconds _ </proc/uptime
    REPLY=$((10#${seconds/./} * 10000000))
}

now() { # the wall clock at the start plus what the monotonic clock has counted since
    uptime_ns
    int $((started + REPLY - clock))
}

append() { # KIND HEX: write one line by one write()
    local kind seed=0 line
    printf -v kind %02x "$1"
    if (($1 != HEADER)); then
        crc32 "${stream}0000000000$kind" # with the segment's number
        seed=$REPLY
    fi
    crc32 "$2" "$seed"
    printf -v line '93%sce%08x' "$kind" "$REPLY"
    bin "$2"
    line+=$REPLY
    # dd collects what printf may write in pieces. After a short write it fails, and nothing of the line may remain.
    if printf "$(sed 's/../\\x&/g' <<<"$line")" |
        dd of="$segment" oflag=append conv=notrunc iflag=fullblock bs=16M status=none 2>/dev/null; then
        size=$((size + ${#line} / 2))
    else
        truncate --size="$size" "$segment"
        return 1
    fi
}

lost=0
record() { # KIND: append the body that was made, or count it as lost, and say so as soon as there is room again
    local made=$body
    body=""
    if ((lost)); then
        add array 3; add now; add int "$lost"; add string "the disk is full"
        if append $LOST "$body"; then lost=0; fi
        body=""
    fi
    append "$1" "$made" || lost=$((lost + 1))
}

text() { if [[ -r $1 ]]; then REPLY=$(<"$1"); else REPLY=""; fi; }

begin() { # SPOOL RUN
    local directory=$1/$EUID/$2 boot machine
    stream=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    segment=$directory/$stream.000000.mpl
    size=0
    ( # with modes 0770 and 0660, less what the user's umask takes
        umask "$(printf %o $((0$(umask) | 007)))"
        mkdir -p "$directory"
        set -o noclobber
        : >"$segment"
    )
    started=$(date +%s%N)
    uptime_ns; clock=$REPLY
    text /proc/sys/kernel/random/boot_id; boot=$REPLY
    text /etc/machine-id; machine=${REPLY:-host:$HOSTNAME}
    machine=$(printf 'tracker machine\0%s' "$machine" | sha256sum)
    add map 12
    add string version; add int 1
    add string stream; add bin "$stream"
    add string segment; add int 0
    add string base; add int 0
    add string machine; add string "${machine:0:32}"
    add string boot; add string "$boot"
    add string pid; add int $$
    add string started; add int "$started"
    add string clock; add int "$clock"
    add string writer; add string example-bash/1
    add string run; add string "$2"
    add string host; add string "$HOSTNAME"
    record $HEADER
}

end() { # EXIT CODE
    add array 3; add now; add int "$1"; add nil
    record $EXIT
}

if (($# < 2)); then
    echo "usage: bash writer.sh SPOOL RUN [STEPS [PAUSE_S]]" >&2
    exit 2
fi
steps=${3:-100}
begin "$1" "$2"
trap 'end $?' EXIT # however the script ends, but for signals that nobody can catch

add array 2; add now; add map 2
add string project; add string writers
add string name; add string "written in bash"
record $RUN

add array 3; add now; add map 2
add string learning_rate; add float 0.1
add string steps; add int "$steps"
add array 0
record $CONFIG

for ((step = 0; step < steps; step++)); do
    add array 3; add now; add int "$step"; add map 2
    add string loss; add float "$(awk -v n=$((step + 1)) 'BEGIN { printf "%.17g", 1 / n }')"
    add string seen; add int $((1000 * step))
    record $METRICS
    sleep "${4:-0}"
done
