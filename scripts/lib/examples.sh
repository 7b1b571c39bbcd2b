# shellcheck shell=bash
# Makes tokens and spaces for trying a node. The script that sources this sets `slotcast` (the binary), `url` (of a ready
# node) and `staff` (a token of staff), and exports the node's JWT_SECRET.

# Prints a token: make_token USER [OPTION...]
make_token() {
  SLOTCAST_LOG=error "${slotcast:?}" token --ttl 24h --user "$@"
}

# Registers a space: put_space SITE SPACE JSON. A space that is in use stays as it is.
put_space() {
  local answer
  answer=$(curl --silent --show-error --request PUT "${url:?}/api/spaces/$1/$2" --data "$3" \
    --header "Authorization: Bearer ${staff:?}" --header 'Content-Type: application/json')
  case $answer in
    *'"success":true'* | *'"space_in_use"'*) ;;
    *) die "the example space $1/$2 could not be registered: $answer" ;;
  esac
}

# Registers the example spaces.
put_example_spaces() {
  put_space 1 1 '{"name": "Open space", "opens": "09:00", "closes": "18:00", "slotMinutes": 60}'
  put_space 1 2 '{"name": "Sala riunioni", "opens": "08:00", "closes": "20:00", "slotMinutes": 30,
    "closures": [{"weekday": "sunday"}]}'
  put_space 2 3 '{"name": "Sala 24 ore", "opens": "00:00", "closes": "24:00", "slotMinutes": 15}'
}
