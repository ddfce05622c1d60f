#!/usr/bin/env bash
# Counts the instructions of one call, over a leaf in memory that is pending once, and holds the
# whole job to its bar. Instructions, because times on a shared machine say little.
#
#     bash benches/callgrind.sh              # the table, then the bar
#     bash benches/callgrind.sh stack/Stack  # these subjects alone, without the bar
#     bash benches/callgrind.sh policies     # what a call costs over 3 to 10,000 endpoints, and the
#                                            # bar for how little that may depend on their number
#
# Each subject makes N calls and then 2N; the difference is the calls alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

# What the whole job may add to the bare call. A client assembled from the best parts of 2026
# adds about 17,000; the same job fused by hand into one future adds 2,900.
readonly BAR=6000
# What has been reached (5,701), and a fiftieth, since libc copies memory by other instructions on
# other processors: more than that fails. It may only go down.
readonly REACHED=5815
# What a call with a policy adds over any number of endpoints, in percent of what it adds over the
# number where it is cheapest: a pick looks at a few of them, however many there are.
readonly SPREAD=130
readonly BARE=stack/leaf WHOLE=stack/Stack
readonly CALLS=${CALLS:-1000}

if ! command -v valgrind >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends valgrind
fi
cargo build --quiet --profile bench -p buttress-benches --bin callgrind
program=${CARGO_TARGET_DIR:-target}/release/callgrind

instructions() {
    local output
    if ! output=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" "$1" "$2" 2>&1); then
        printf '%s\n' "$output" >&2
        return 1
    fi
    sed -nE 's/.*Collected : ([0-9]+)$/\1/p' <<< "$output"
}

per_call() {
    local once twice
    once=$(instructions "$1" "$CALLS")
    twice=$(instructions "$1" $((2 * CALLS)))
    echo $(((twice - once) / CALLS))
}

subjects=("$@")
policies=
if ((${#subjects[@]} == 0)); then
    mapfile -t subjects < <("$program" --list)
elif [[ ${subjects[*]} == policies ]]; then
    mapfile -t subjects < <("$program" --policies)
    policies=yes
fi

declare -A counted
group=
bare=
for subject in "${subjects[@]}"; do
    count=$(per_call "$subject")
    counted[$subject]=$count
    if [[ $subject == */leaf ]]; then
        bare=$count
    fi
    if [[ ${subject%%/*} != "$group" ]]; then
        group=${subject%%/*}
        printf '\n%-56s %12s %8s\n' "$group" instructions added
    fi
    printf '  %-54s %12d %8s\n' "${subject#*/}" "$count" "${bare:+$((count - bare))}"
done

if [[ -n ${counted[$WHOLE]:-} && -n ${counted[$BARE]:-} ]]; then
    added=$((counted[$WHOLE] - counted[$BARE]))
    printf '\nThe whole job adds %d instructions; at most %d so far, %d is the bar.\n' \
        "$added" "$REACHED" "$BAR"
    ((added <= REACHED))
fi

if [[ -n $policies ]]; then
    declare -A least most
    for subject in "${subjects[@]}"; do
        policy=${subject#*/}
        [[ $policy != leaf ]] || continue
        added=$((counted[$subject] - counted[${subject%%/*}/leaf]))
        low=${least[$policy]:-$added} high=${most[$policy]:-$added}
        least[$policy]=$((added < low ? added : low))
        most[$policy]=$((added > high ? added : high))
    done
    printf '\nWhat a policy adds over its dearest number of endpoints, in percent of its cheapest; at most %d.\n' \
        "$SPREAD"
    failed=
    for policy in "${!most[@]}"; do
        percent=$((100 * most[$policy] / least[$policy]))
        printf '  %-54s %12d\n' "$policy" "$percent"
        ((percent <= SPREAD)) || failed=yes
    done
    [[ -z $failed ]]
fi
