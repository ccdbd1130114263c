{{/*
The configuration as the other templates need it, as JSON. The relay stays the judge of the file; this only
reads what the cluster must know, with the relay's own defaults. tests/unit/infra/kubernetes compares both.
*/}}
{{- define "smtp-relay.facts" -}}
{{- $config := include "smtp-relay.parsed" . | fromJson -}}
{{- $options := default dict $config.options -}}
{{- $found := dict "env" list "files" list "secrets" list "ports" list "clouds" list -}}
{{- include "smtp-relay.walk" (dict "value" (omit $config "flows") "path" "" "key" "" "found" $found) -}}
{{- include "smtp-relay.spool" (dict "config" $config "found" $found) -}}

{{- $listeners := list -}}
{{- $given := default (list (dict "port" (ternary $config.port 10025 (hasKey $config "port")) "bind" (default "" $config.bind))) $config.listeners -}}
{{- $close := 0 -}}
{{- range $index, $one := $given -}}
  {{- $all := merge (deepCopy $one) (deepCopy $options) -}}
  {{- range $key := list "secure" "useProxy" "hideSTARTTLS" "allowInsecureAuth" -}}
    {{- if hasKey $one $key -}}{{- $_ := set $all $key (get $one $key) -}}{{- end -}}
  {{- end -}}
  {{- $milliseconds := include "smtp-relay.milliseconds" (default 30000 $all.closeTimeout) | int64 -}}
  {{- $close = max $close $milliseconds -}}
  {{- $bind := default "" $all.bind | toString | lower -}}
  {{- $loopback := or (eq $bind "localhost") (hasPrefix "127." $bind) (eq ($bind | trimAll "[]") "::1") -}}
  {{- $proxies := $all.useProxy -}}
  {{- if kindIs "string" $proxies -}}{{- $proxies = list $proxies -}}{{- end -}}
  {{- $tls := or (not (empty $all.cert)) (not (empty $all.pfx)) (eq (toString $all.secure) "true") -}}
  {{- $listeners = append $listeners (dict
      "name" (default (toString (int $one.port)) $one.name)
      "port" (int $one.port) "secure" (eq (toString $all.secure) "true") "tls" $tls
      "starttls" (and $tls (ne (toString $all.hideSTARTTLS) "true"))
      "loopback" $loopback "proxy" (not (empty $proxies)) "proxies" (kindIs "slice" $proxies)) -}}
{{- end -}}

{{- $inProcess := ne (include "smtp-relay.mode" (dict "config" $config "bucket" $found.spool.bucket)) "events" -}}
{{- $folders := list -}}
{{- range $flow, $content := $config.flows -}}
  {{- include "smtp-relay.walk" (dict "value" $content.filters "path" (printf "flows.%s.filters" $flow) "key" "" "found" $found) -}}
  {{- range $index, $output := $content.outputs -}}
    {{- $path := printf "flows.%s.outputs[%d]" $flow $index -}}
    {{- if $inProcess -}}
      {{- include "smtp-relay.walk" (dict "value" $output "path" $path "key" "" "found" $found) -}}
      {{- if has $output.type (list "mailer" "nodemailer") -}}
        {{- $_ := set $found "ports" (append $found.ports (include "smtp-relay.mailerPort" (default dict $output.nodemailer) | int)) -}}
        {{- if kindIs "map" $output.nodemailer -}}
          {{- $auth := default dict $output.nodemailer.auth -}}
          {{- if and (or $auth.refreshToken $auth.serviceClient) (not $auth.accessUrl) -}}
            {{- $_ := set $found "ports" (append $found.ports 443) -}}{{- /* Google's token endpoint, the default */ -}}
          {{- end -}}
        {{- end -}}
      {{- else if has $output.type (list "aws" "gcp") -}}
        {{- $_ := set $found "clouds" (append $found.clouds $output.type) -}}
      {{- else if eq $output.type "file" -}}
        {{- $folders = append $folders (dict "path" $path "folder" (include "smtp-relay.absolute" $output.path)) -}}
      {{- else if eq $output.type "webhook" -}}
        {{- if not (regexMatch `^https?://` (toString $output.url)) -}}
          {{- $_ := set $found "ports" (append $found.ports 443) -}}{{- /* a URL that is a secret */ -}}
        {{- end -}}
      {{- else if ne $output.type "log" -}}
        {{- $_ := set $found "plugins" true -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- range $content.filters -}}
    {{- if not (has .type (list "whitelist" "blacklist" "static-auth" "http-auth" "http-filter" "respond" "sending-policy" "mail-auth")) -}}
      {{- $_ := set $found "plugins" true -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $index, $logger := default $options.loggers $config.loggers -}}
  {{- if eq (toString $logger.type | upper) "FILE" -}}
    {{- $folders = append $folders (dict "path" (printf "loggers[%d]" $index) "folder" (include "smtp-relay.absolute" (dir $logger.filepath))) -}}
  {{- end -}}
{{- end -}}

{{- $health := default dict $config.health -}}
{{- $prometheus := default dict $config.prometheus -}}
{{- dict "listeners" $listeners
    "closeSeconds" (div (add $close 999) 1000)
    "health" (int (default 9090 $health.portNumber))
    "metrics" (int (default 0 $prometheus.portNumber)) "metricsPath" (default "/metrics" $prometheus.url)
    "boundToItself" (ternary "health" (ternary "prometheus" "" (has (toString $prometheus.bind) (list "127.0.0.1" "localhost" "::1"))) (has (toString $health.bind) (list "127.0.0.1" "localhost" "::1")))
    "inbox" (not (kindIs "invalid" $config.inbox)) "inProcess" $inProcess
    "spool" $found.spool "folders" $folders "env" ($found.env | uniq) "files" ($found.files | uniq)
    "secrets" $found.secrets "plugins" (default false $found.plugins)
    "ports" ($found.ports | uniq | sortAlpha) "clouds" ($found.clouds | uniq | sortAlpha) | toJson -}}
{{- end -}}

{{/* The configuration's text as the relay gets it: as given, or an object as JSON. */}}
{{- define "smtp-relay.text" -}}
{{- if kindIs "map" .Values.config -}}
{{- .Values.config | toPrettyJson -}}
{{- else -}}
{{- default "" .Values.config -}}
{{- end -}}
{{- end -}}

{{/* The name of the configuration's file: its suffix tells the relay how to read it. */}}
{{- define "smtp-relay.file" -}}
{{- if include "smtp-relay.text" . | include "smtp-relay.withoutComments" | trim | hasPrefix "{" -}}
smtp-relay.jsonc
{{- else -}}
smtp-relay.yaml
{{- end -}}
{{- end -}}

{{/* JSONC without comments and a byte order mark. Strings are matched whole, so that `//` in them stays. */}}
{{- define "smtp-relay.withoutComments" -}}
{{- regexReplaceAll `("(?:[^"\\]|\\.)*")|//[^\n]*|(?s:/\*.*?\*/)` (. | trimPrefix "\ufeff") "${1}" -}}
{{- end -}}

{{/* The configuration as JSON. */}}
{{- define "smtp-relay.parsed" -}}
{{- $text := include "smtp-relay.text" . -}}
{{- if not (trim $text) -}}
{{- fail "config: is missing (give the relay's file: --set-file config=relay.jsonc)" -}}
{{- end -}}
{{- $value := dict -}}
{{- if eq (include "smtp-relay.file" .) "smtp-relay.jsonc" -}}
  {{- $plain := include "smtp-relay.withoutComments" $text -}}
  {{- $value = regexReplaceAll `("(?:[^"\\]|\\.)*")|,(\s*[}\]])` $plain "${1}${2}" | fromJson -}}
{{- else -}}
  {{- $value = fromYaml $text -}}
{{- end -}}
{{- if hasKey $value "Error" -}}
{{- fail (printf "config: cannot be read: %s (`smtp-relay check FILE` says where)" $value.Error) -}}
{{- else if not (kindIs "map" $value.flows) -}}
{{- fail "config: has no flows (`smtp-relay check FILE` says what a configuration needs)" -}}
{{- end -}}
{{- toJson $value -}}
{{- end -}}

{{/* Notes in `found` what any part of the configuration refers to: variables, files, clouds, ports of URLs;
and secrets that stand in it themselves. */}}
{{- define "smtp-relay.walk" -}}
{{- $found := .found -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
  {{- $users := eq .key "users" -}}
  {{- range $key, $item := .value -}}
    {{- if ne $key "$schema" -}}
      {{- include "smtp-relay.walk" (dict "value" $item "path" (printf "%s.%s" $path $key | trimPrefix ".") "key" (ternary "password" $key $users) "found" $found) -}}
    {{- end -}}
  {{- end -}}
{{- else if kindIs "slice" .value -}}
  {{- $key := .key -}}
  {{- range $index, $item := .value -}}
    {{- include "smtp-relay.walk" (dict "value" $item "path" (printf "%s[%d]" $path $index) "key" $key "found" $found) -}}
  {{- end -}}
{{- else if kindIs "string" .value -}}
  {{- $scheme := regexFind `^(env|file|ssm|secretsmanager|gcp-secret):` .value -}}
  {{- if eq $scheme "env:" -}}
    {{- $_ := set $found "env" (append $found.env (dict "path" $path "name" (trimPrefix "env:" .value))) -}}
  {{- else if and (eq $scheme "file:") (ne $path "spool") (ne $path "spool.url") -}}
    {{- $_ := set $found "files" (append $found.files (dict "path" $path "file" (include "smtp-relay.absolute" (trimPrefix "file://" .value)))) -}}
  {{- else if has $scheme (list "ssm:" "secretsmanager:") -}}
    {{- $_ := set $found "clouds" (append $found.clouds "aws") -}}
  {{- else if eq $scheme "gcp-secret:" -}}
    {{- $_ := set $found "clouds" (append $found.clouds "gcp") -}}
  {{- else if regexMatch `^https?://` .value -}}
    {{- $port := regexFind `:[0-9]+$` (urlParse .value).host | trimPrefix ":" -}}
    {{- $_ := set $found "ports" (append $found.ports (int (default (ternary 443 80 (hasPrefix "https:" .value)) $port))) -}}
  {{- end -}}
  {{- $secret := has .key (list "accessToken" "aws_secret_access_key" "aws_session_token" "clientSecret" "pass" "passphrase" "password" "pfx" "privateKey" "refreshToken" "salt" "secret" "secretAccessKey" "secrets" "serviceAccountKey" "sessionToken" "token") -}}
  {{- $plain := and (not $scheme) (not (hasPrefix "$" .value)) -}}
  {{- if or (and $secret $plain) (contains "PRIVATE KEY-----" .value) (regexMatch `^smtps?://[^/@]*:[^/@]*@` .value) -}}
    {{- $_ := set $found "secrets" (append $found.secrets $path) -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* Sets `found.spool`: a bucket, or the folder that the volume is for; `captures` is the folder of mails that arrive. */}}
{{- define "smtp-relay.spool" -}}
{{- $spool := default dict .config.spool -}}
{{- $url := "" -}}
{{- if kindIs "string" $spool -}}{{- $url = $spool -}}{{- else -}}{{- $url = default "" $spool.url -}}{{- end -}}
{{- $cache := regexFind `^[^$]*/` (regexReplaceAll `\$\{.*` (default "" .config.cachePath) "") -}}
{{- $beside := printf "%s.smtp-relay" $cache -}}
{{- if regexMatch `^(s3|gs)://` $url -}}
  {{- $cloud := ternary "aws" "gcp" (hasPrefix "s3:" $url) -}}
  {{- $_ := set .found "clouds" (append .found.clouds $cloud) -}}
  {{- $_ := set .found "spool" (dict "bucket" true "captures" (include "smtp-relay.absolute" $beside)) -}}
{{- else -}}
  {{- $folder := ternary (trimPrefix "file://" $url) $beside (ne $url "") -}}
  {{- $_ := set .found "spool" (dict "bucket" false "folder" (include "smtp-relay.absolute" $folder)) -}}
{{- end -}}
{{- end -}}

{{/* in-process or events, as the relay decides. */}}
{{- define "smtp-relay.mode" -}}
{{- default (ternary "events" "in-process" .bucket) (default dict .config.delivery).mode -}}
{{- end -}}

{{/* A path as the relay sees it in the image, whose working folder is /smtp-relay. */}}
{{- define "smtp-relay.absolute" -}}
{{- if hasPrefix "/" . -}}{{- clean . -}}{{- else -}}{{- clean (printf "/smtp-relay/%s" .) -}}{{- end -}}
{{- end -}}

{{/* A duration of the configuration in milliseconds: a number, or a text such as 30s. */}}
{{- define "smtp-relay.milliseconds" -}}
{{- $number := regexFind `^[0-9]+(\.[0-9]+)?` (toString .) -}}
{{- $unit := regexFind `[a-z]+$` (toString .) -}}
{{- if not (kindIs "string" .) -}}
{{- int64 . -}}
{{- else -}}
{{- mulf (float64 $number) (get (dict "" 1 "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit) | int64 -}}
{{- end -}}
{{- end -}}

{{/* The port of the next SMTP server: Nodemailer's options or URL. */}}
{{- define "smtp-relay.mailerPort" -}}
{{- $secure := false -}}
{{- $port := 0 -}}
{{- if kindIs "string" . -}}
  {{- $secure = hasPrefix "smtps:" . -}}
  {{- $port = regexFind `:[0-9]+$` (urlParse .).host | trimPrefix ":" | int -}}
{{- else -}}
  {{- $service := default "" .service | lower | replace " " "" -}}
  {{- $secure = or (has $service (list "fastmail" "gmail" "mailgun" "yahoo" "zoho")) (hasPrefix "ses-" $service) -}}
  {{- $secure = ternary .secure $secure (hasKey . "secure") -}}
  {{- $port = get (dict "maildev" 1025 "postmark" 2525) $service | int -}}
  {{- if hasKey . "port" -}}{{- $port = int .port -}}
  {{- else if and $service (not $port) -}}{{- $port = ternary 465 587 (or (has $service (list "fastmail" "gmail" "mailgun" "yahoo" "zoho")) (hasPrefix "ses-" $service)) -}}
  {{- end -}}
{{- end -}}
{{- ternary $port (ternary 465 587 (eq (toString $secure) "true")) (gt (int $port) 0) -}}
{{- end -}}
