# The line rules of tests/lint/lint.sh: files as arguments, one finding a line, "file:line: what; what is wanted".
# A line that begins with "warning: " is shown but not counted. Plain awk: mawk has no {n} and no \b.

BEGIN {
    max_file = 800; max_function = 80
    # Who may include whom; CONTRIBUTING.md shows the same table. A room may always include itself; harness and tests may include all.
    may["base"] = " "
    may["kernels"] = " base "
    may["quantizers"] = " base kernels "
    may["engine"] = " base kernels quantizers "
    may["datasets"] = " base engine/checkpoint.h engine/gguf.h "
    may["metrics"] = " base "
    may["db"] = " base "
    may["reports"] = " base db metrics "
    may["harness"] = may["tests"] = " base kernels quantizers engine datasets metrics db reports harness "
    ban("strcpy strcat strncpy strncat sprintf vsprintf stpcpy", "snprintf, or memcpy with a checked size")
    ban("gets scanf", "getline, or strtol and strtod with their end pointer checked")
    ban("atoi atol atoll atof", "strtol or strtod with its end pointer checked")
    ban("strtok", "strtok_r")
    ban("localtime gmtime ctime asctime", "the function that ends in _r")
    ban("tmpnam tempnam mktemp", "mkstemp or mkdtemp")
    ban("alloca", "dsb_arena_take or DSB_NEW")
    ban("rand srand random drand48", "a generator with a stored seed")
    # Tests may start programs through a shell: the words are their own.
    ban("system popen", "a process without a shell (reports/gnuplot.c)"); in_tests["system"] = in_tests["popen"] = 1
    ban("exit", "a status passed up: only main ends the process"); in_tests["exit"] = 1
}

function ban(names, instead,   n, a, i) { n = split(names, a, " "); for (i = 1; i <= n; i++) banned[a[i]] = instead }
function find(line, text) { print FILENAME ":" line ": " text }

# The line without comments, its strings emptied; comment text is kept until the next line of code.
function strip(line,   out, tok, ok) {
    out = ""
    while (line != "") {
        if (in_comment) {
            if (!match(line, /\*\//)) { comment = comment " " line; return out }
            comment = comment " " substr(line, 1, RSTART - 1)
            line = substr(line, RSTART + 2); in_comment = 0
            continue
        }
        if (!match(line, /\/\*|\/\/|"|'/)) return out line
        tok = substr(line, RSTART, RLENGTH)
        out = out substr(line, 1, RSTART - 1); line = substr(line, RSTART + RLENGTH)
        if (tok == "/*") { in_comment = 1; continue }
        if (tok == "//") { comment = comment " " line; return out }
        ok = tok == "\"" ? match(line, /^([^"\\]|\\.)*"/) : match(line, /^([^'\\]|\\.)*'/)
        out = out tok tok; line = ok ? substr(line, RLENGTH + 1) : ""
    }
    return out
}

function include_check(path,   room, target) {
    room = FILENAME; sub(/\/.*/, "", room)
    if (path ~ /\.c$/) { find(FNR, "includes " path "; a header is wanted, code is linked"); return }
    if (path !~ /\//) {
        if (path != "version_stamp.h" && room != "tests") find(FNR, "includes \"" path "\"; \"room/file.h\" is wanted")
        return
    }
    target = path; sub(/\/.*/, "", target)
    if (!(room in may)) { find(FNR, "room " room "/ is in no table; a row in tests/lint/lint.awk is wanted"); return }
    if (target != room && index(may[room], " " target " ") == 0 && index(may[room], " " path " ") == 0)
        find(FNR, room "/ includes " path "; it may include" (may[room] == " " ? " nothing of ours" : ":" may[room]))
}

function calls_check(code,   name, before) {
    while (match(code, /[A-Za-z_][A-Za-z_0-9]*[ \t]*\(/)) {
        name = substr(code, RSTART, RLENGTH - 1); sub(/[ \t]+$/, "", name)
        before = RSTART > 1 ? substr(code, RSTART - 1, 1) : ""
        code = substr(code, RSTART + RLENGTH)
        if ((name in banned) && before != "." && before != ">" && !(is_test && (name in in_tests)))
            find(FNR, name "() is banned; " banned[name] " is wanted")
    }
}

function guard_check(code,   a) {
    if (guard_done || code !~ /^[ \t]*#/) return
    split(code, a, " ")
    if (guard == "") {
        guard = a[1] == "#ifndef" ? a[2] : "none"
        guard_done = guard == "none"
        return
    }
    guard_done = 1
    if (a[1] != "#define" || a[2] != guard) guard = "none"
}

function function_check(code,   n) {
    if (code ~ /^[A-Za-z_].*\(.*\{[ \t]*$/ && code !~ /=[ \t]*\{[ \t]*$/) { start = FNR; why = comment ~ /[Ll]ong|lines/ }
    if (code !~ /^\}/ || !start) return
    n = FNR - start + 1
    if (n > max_function && !why) print "warning: " FILENAME ":" start ": function of " n " lines; at most " max_function ", or a comment above that says why it is long"
    start = 0
}

function c_line(   code, path, name) {
    code = strip($0)
    if (index($0, "\t")) find(FNR, "tab; spaces are wanted")
    if (code ~ /^[ \t]*#[ \t]*include[ \t]*""/) { path = $0; sub(/^[^"]*"/, "", path); sub(/".*/, "", path); include_check(path) }
    else calls_check(code)
    if (is_header) guard_check(code)
    if (is_unit && code ~ /^(static )?void [A-Za-z_0-9]+\(void \*\*[a-z]+\) *\{/) {
        name = code; sub(/^(static )?void /, "", name); sub(/\(.*/, "", name)
        if (name !~ /^test_[a-z0-9]+(_[a-z0-9]+)*__[a-z0-9]+(_[a-z0-9]+)*$/) find(FNR, name "; test_<module>__<what_holds> is wanted")
    }
    function_check(code)
    if (code !~ /^[ \t]*$/) comment = ""
}

function file_end() {
    if (file == "") return
    if (is_long_checked && lines > max_file) print file ":" lines ": " lines " lines; at most " max_file " are wanted: split it"
    if (!is_header) return
    if (guard == "" || guard == "none") print file ":1: no include guard; #ifndef DSB_ROOM_FILE_H and its #define are wanted first"
    else if (guard in guard_of) print file ":1: include guard " guard " is also that of " guard_of[guard] "; another name is wanted"
    else guard_of[guard] = file
}

FNR == 1 {
    file_end()
    file = FILENAME
    is_header = file ~ /\.h$/; is_c = file ~ /\.[ch]$/
    is_test = file ~ /^tests\//; is_unit = file ~ /^tests\/unit\/test_.*\.c$/
    is_long_checked = file ~ /\.(c|h|sh|py|awk)$/
    in_comment = 0; comment = ""; start = 0; guard = ""; guard_done = 0
}
{
    lines = FNR
    if (/\r$/) find(FNR, "carriage return; \\n alone is wanted")
    else if (/[ \t]$/) find(FNR, "blank at the end of the line; none is wanted")
    if (/^(<<<<<<<|>>>>>>>) /) find(FNR, "conflict marker; the merged text is wanted")
    if (match($0, /\/(work|root|home)\/[a-zA-Z]/)) find(FNR, "path of one machine (" substr($0, RSTART, RLENGTH) "…); a relative one is wanted")
    if (match($0, /(^|[^A-Za-z_])(TODO|FIXME)([^A-Za-z_(|)]|$)/)) find(FNR, "unfinished mark; the work itself, or an issue, is wanted")
    if (is_c) c_line()
}
END { file_end() }
