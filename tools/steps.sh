# The steps of a run: each is done, shown, logged and noted, and in the end all is told.
#
# Needs `say` (tools/environment.sh), and LOGS, a folder. A step that fails does not stop the next.
# shellcheck shell=bash

STEP_LIMIT=${STEP_LIMIT:-1800} # seconds; a step that takes longer hangs
RUN_LIMIT=${RUN_LIMIT:-0}      # seconds after which no limited step goes on; 0: none. The table must be seen before CI's own.
NAMES=() RESULTS=() SECONDS_OF=() CLOSINGS=()
FAILED=0

# step NAME COMMAND...: runs it, shows and logs what it prints, and notes how it ended. Status 77 means
# that it cannot be done here; its last line says why.
step() {
    local name=$1 began=$SECONDS status log
    log=$(log_of "$name")
    shift
    say "$name"
    "$@" </dev/null 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    note "$name" "$status" $((SECONDS - began)) "$(closing_line "$log")"
    return "$status"
}

log_of() { printf '%s\n' "$LOGS/${1//[^a-z0-9.]/-}.log"; }

note() {
    NAMES+=("$1") SECONDS_OF+=("$3") CLOSINGS+=("$4")
    if (($2 == 0)); then
        RESULTS+=(ok)
    elif (($2 == 77)); then
        RESULTS+=(skipped)
    else
        RESULTS+=("FAILED ($2)")
        FAILED=$((FAILED + 1))
    fi
}

skip() {
    printf '\n==> %s: skipped, %s\n' "$1" "$2"
    NAMES+=("$1") RESULTS+=(skipped) SECONDS_OF+=(0) CLOSINGS+=("$2")
}

# The last line that says something, without colours and rulers.
closing_line() {
    sed -e 's/\x1b\[[0-9;]*m//g' -e 's/^[=[:space:]]*//' -e 's/[=[:space:]]*$//' "$1" |
        grep -v '^-*$' | tail -1 | cut -c1-100
}

# All that the command has started ends with it: what lived on would keep the step's output open, and the step with it. At
# a terminal Ctrl-C must reach the command, which only a group in the foreground hears.
GROUP=()
[[ -t 1 ]] && GROUP=(--foreground)
limited() {
    local seconds=$STEP_LIMIT left=$((RUN_LIMIT - SECONDS))
    if ((RUN_LIMIT && left < seconds)); then seconds=$((left > 1 ? left : 1)); fi
    timeout "${GROUP[@]}" -k 30 "$seconds" "$@"
}

# What tells of one thing that failed: to pytest, and to CPython's tests; to other projects' tests; to
# nextest; to cargo; to compilers and linters. And the test in which pytest ended itself.
TELLING='^ *(FAILED|ERROR|CRASHED|HUNG|LOST|MODULE|ESCAPED) [^ ]'
TELLING+='|^ *(DIFFERS|WORTHLESS): '
TELLING+='|^ *(TRY [0-9]+ )?(FAIL|SIG[A-Z]+|TIMEOUT) \['
TELLING+='|^test .* \.\.\. FAILED$'
TELLING+='|(^|: )error(\[[A-Z0-9]+\])?: '
TELLING+='|^ *File ".*/tests/.*", line [0-9]+,? in test_'
# From tests/conftest.py, for runs that are ended before pytest sums up.
TELLING+='|^fell short: '

# failures_in LOG: the first twenty such lines, each once; without any, how it ended.
failures_in() {
    local told count
    told=$(sed -e 's/\x1b\[[0-9;]*m//g' "$1" | grep -E "$TELLING" | grep -v ' (known) ' | awk '!seen[$0]++')
    if grep -qE '^(FAILED|ERROR) ' <<<"$told"; then
        told=$(grep -v '^fell short: ' <<<"$told")
    fi
    count=$(grep -c . <<<"$told")
    {
        if ((count)); then head -20 <<<"$told"; else tail -5 "$1"; fi
        if ((count > 20)); then printf 'and %d more, see %s\n' $((count - 20)) "$1"; fi
    } | cut -c1-300
}

# tell_failures: of each step that failed, since who reads a long output sees its end at least.
tell_failures() {
    local index
    for index in "${!NAMES[@]}"; do
        [[ ${RESULTS[index]} == FAILED* ]] || continue
        printf '\n%s:\n' "${NAMES[index]}"
        failures_in "$(log_of "${NAMES[index]}")" | sed 's/^ */    /'
    done
}

summary() {
    local index
    printf '\n%-34s %-13s %6s  %s\n' step result time 'closing line'
    for index in "${!NAMES[@]}"; do
        printf '%-34s %-13s %5ss  %s\n' "${NAMES[index]}" "${RESULTS[index]}" \
            "${SECONDS_OF[index]}" "${CLOSINGS[index]}"
    done
    tell_failures
    printf '\n%d steps, %d failed, %d s\n' "${#NAMES[@]}" "$FAILED" "$SECONDS"
    ((FAILED == 0))
}
