#!/bin/sh
# Sends one JSON object to a web-ipc server with curl and openssl (3 or later) alone; written from
# docs/protocol.md.
#
# sh client.sh DIR [SERVER HOST:PORT] '{"test": 1}'
# DIR is a home. That of an enrolled client says the rest: server, first address, certificate and
# user. In a server's home they are localhost, 127.0.0.1:3000, localhost and the default admin.
# Exit status: 0 the message is in the server's inbox, 1 it is not, or nobody knows, 2 wrong usage.
#
# It shows that it can be done. Other users of this host see the keys in the arguments of openssl
# (ps), and there is one attempt: use another client in earnest.
set -eu
export LC_ALL=C
home=${1-} server=localhost address=127.0.0.1:3000 identity=localhost credentials=admin.cred
if [ -e "$home/client.json" ]; then
    # The value of a member; of a list the first.
    told() { tr -d '\n' < "$home/client.json" | sed "s/.*\"$1\": *\[\{0,1\} *\"\([^\"]*\)\".*/\1/"; }
    server=$(told server) address=$(told addresses) identity=$(told identity) credentials=client.cred
fi
case $# in
    2) message=$2 ;;
    4) server=$2 address=$3 message=$4 ;;
    *) echo "usage: client.sh DIR [SERVER HOST:PORT] OBJECT" >&2; exit 2 ;;
esac
umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() { echo "client.sh: $*" >&2; exit 1; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
# The bytes of a text in hex: a printf escape for each of them.
bytes() { printf "$(fold -w 2 | awk 'NF { printf "\\%03o", (index("123456789abcdef", substr($1, 1, 1)) * 16) + index("123456789abcdef", substr($1, 2, 1)) }')"; }

key=$(grep -v '^ *#' "$home/envelope.keys" | grep -m 1 . | tr -- '-_' '+/' | base64 -d | hex)
signing=$(printf %.32s "$key") encryption=${key#????????????????????????????????}

mac() { openssl mac -digest SHA256 -macopt "hexkey:$signing" -binary -in "$1" HMAC; }

# seal IN OUT: version, time, IV, ciphertext, MAC
seal() {
    iv=$(openssl rand -hex 16)
    { printf '80%016x%s' "$(date +%s)" "$iv" | bytes; openssl enc -aes-128-cbc -K "$encryption" -iv "$iv" -in "$1"; } > "$work/signed"
    { cat "$work/signed"; mac "$work/signed"; } > "$2"
}

# open IN OUT MAX_AGE: checks the MAC and the age before it decrypts
open() {
    length=$(($(wc -c < "$1") - 32))
    [ "$length" -ge 41 ] || fail "the answer is no envelope"
    head -c "$length" "$1" > "$work/signed"
    # Compared by their digests, so that the time it takes tells nothing of the MAC.
    [ "$(tail -c 32 "$1" | openssl dgst -sha256 -r)" = "$(mac "$work/signed" | openssl dgst -sha256 -r)" ] || fail "no key opens the answer"
    [ "$(head -c 1 "$1" | hex)" = 80 ] || fail "the answer is no envelope"
    age=$(($(date +%s) - 0x$(head -c 9 "$1" | tail -c 8 | hex)))
    [ "$3" = any ] || { [ "$age" -le "$3" ] && [ "$age" -ge "-$3" ]; } || fail "the answer is stale"
    iv=$(head -c 25 "$1" | tail -c 16 | hex)
    tail -c +26 "$work/signed" | openssl enc -d -aes-128-cbc -K "$encryption" -iv "$iv" > "$2"
}

uuid() { openssl rand -hex 16 | sed 's/^\(.\{8\}\)\(.\{4\}\).\(.\{3\}\).\(.\{3\}\)\(.\{12\}\)$/\1-\2-4\3-8\4-\5/'; }

# post ROUTE ID BODY SESSION: the status; the answer is in $work/answer
post() {
    printf '{"v":1,"to":"%s","id":"%s"%s,"body":%s}' "$1" "$2" "$4" "$3" > "$work/plaintext"
    seal "$work/plaintext" "$work/envelope"
    : > "$work/answer"
    curl --silent --show-error --noproxy '*' --max-time 15 --http1.1 --connect-to "::$address" \
        --cacert "$home/web-ipc-ca.crt" --cert "$home/$identity.crt" --key "$home/$identity.key" \
        --header 'Content-Type: application/octet-stream' --data-binary "@$work/envelope" \
        --output "$work/answer" --write-out '%{http_code}' "https://$server$1" || fail "no answer, so that it is not known what became of it"
}

# The credentials are a token in text form, of any age.
tr -d '\n' < "$home/$credentials" | tr -- '-_' '+/' | base64 -d > "$work/sealed"
open "$work/sealed" "$work/credentials" any

login_id=$(uuid)
status=$(post /client/auth "$login_id" "$(cat "$work/credentials")" "")
[ "$status" = 200 ] || fail "the login is refused: $(cat "$work/answer")"
open "$work/answer" "$work/reply" 60
grep -q '"to":"reply"' "$work/reply" && grep -q "\"id\":\"$login_id\"" "$work/reply" || fail "a reply to another request"
session=$(sed -n 's/.*"session":"\([^"]*\)".*/\1/p' "$work/reply")
[ -n "$session" ] || fail "the login gave no session"

status=$(post /message/submit "$(uuid)" "$message" ",\"session\":\"$session\"")
[ "$status" = 200 ] || fail "refused: $(cat "$work/answer")"
