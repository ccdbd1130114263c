{{/* Ends with one line about the first value that does not fit the configuration. */}}
{{- define "smtp-relay.checks" -}}
{{- $facts := .facts -}}
{{- with .root.Values -}}
{{- if not $facts.spool.bucket -}}
  {{- if eq .kind "Deployment" -}}
    {{- fail (printf "kind: a Deployment cannot keep the spool %s, whose mails were answered 250 (leave kind out, or spool to a bucket)" $facts.spool.folder) -}}
  {{- else if not .persistence.enabled -}}
    {{- fail (printf "persistence.enabled: the spool %s needs a volume, because its mails were answered 250 (set it to true, or spool to a bucket)" $facts.spool.folder) -}}
  {{- end -}}
  {{- range .extraVolumeMounts -}}
    {{- if hasPrefix (printf "%s/" $facts.spool.folder) (printf "%s/" (clean .mountPath)) -}}
      {{- fail (printf "extraVolumeMounts: %s is in the spool %s, which has its own volume (take it away)" .mountPath $facts.spool.folder) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if $facts.inbox -}}
  {{- fail "config: inbox: this chart serves no inbox (take it out; `smtp-relay mails` shows stored mails)" -}}
{{- end -}}
{{- with $facts.boundToItself -}}
  {{- fail (printf "config: %s.bind: probes come from outside of the pod (leave it out)" .) -}}
{{- end -}}
{{- with $facts.secrets -}}
  {{- fail (printf "config: %s: a secret would stand in a ConfigMap (refer to it: env:NAME with secretEnv, file:///PATH with secretFiles, or a cloud's store)" (first .)) -}}
{{- end -}}

{{- $taken := list (int $facts.health) (int $facts.metrics) -}}
{{- $reachable := list -}}
{{- range $facts.listeners -}}
  {{- if eq (int .port) 0 -}}{{- fail "config: port: 0 is a port that changes at every start (write one such as 10025)" -}}{{- end -}}
  {{- if has (int .port) $taken -}}
    {{- fail (printf "config: port %d: is the port of health or metrics too (give the listener another)" (int .port)) -}}
  {{- end -}}
  {{- if not .loopback -}}{{- $reachable = append $reachable .name -}}{{- end -}}
{{- end -}}
{{- if not $reachable -}}
  {{- fail "config: bind: no Service reaches an address of the pod's own (leave bind out)" -}}
{{- end -}}

{{- range $name := list "SMTP_RELAY_BIND" "SMTP_RELAY_CONFIG_JSON" "SMTP_RELAY_DEFAULT_BIND" "SMTP_RELAY_HEALTH_PORT" "SMTP_RELAY_LISTENERS" "SMTP_RELAY_PORT" "SMTP_RELAY_SPOOL" "SMTP_RELAY_TRUSTED_PROXIES" -}}
  {{- range $values := list "env" "secretEnv" -}}
    {{- if hasKey (get $.root.Values $values) $name -}}
      {{- fail (printf "%s.%s: would override the configuration, from which the chart derives ports and volumes (write it into config)" $values $name) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $_ := .env -}}
  {{- if hasKey $.root.Values.secretEnv $name -}}{{- fail (printf "env.%s: stands in secretEnv too (give one of them)" $name) -}}{{- end -}}
{{- end -}}
{{- range $facts.env -}}
  {{- if not (or (hasKey $.root.Values.secretEnv .name) (hasKey $.root.Values.env .name)) -}}
    {{- fail (printf "config: %s: env:%s is set by nothing (add secretEnv.%s: {name: SECRET, key: KEY})" .path .name .name) -}}
  {{- end -}}
{{- end -}}

{{- $tls := include "smtp-relay.tlsSecret" $.root -}}
{{- if and .tls.secretName .tls.certManager.issuerRef -}}
  {{- fail "tls.secretName: stands beside tls.certManager.issuerRef (give one of them)" -}}
{{- else if and .tls.certManager.issuerRef (not .tls.certManager.dnsNames) -}}
  {{- fail "tls.certManager.dnsNames: is missing (give the names that clients connect to)" -}}
{{- end -}}
{{- $readable := values .secretFiles -}}
{{- if $tls -}}{{- $readable = append $readable "/tls" -}}{{- end -}}
{{- range .extraVolumeMounts -}}{{- $readable = append $readable .mountPath -}}{{- end -}}
{{- $reads := false -}}
{{- range $file := $facts.files -}}
  {{- $mounted := false -}}
  {{- range $readable -}}{{- if hasPrefix (printf "%s/" (clean .)) $file.file -}}{{- $mounted = true -}}{{- end -}}{{- end -}}
  {{- if hasPrefix "/tls/" .file -}}{{- $reads = true -}}{{- end -}}
  {{- if not $mounted -}}
    {{- fail (printf "config: %s: nothing is mounted at %s (%s)" .path .file (ternary "set tls.secretName or tls.certManager" "add the folder to secretFiles" (hasPrefix "/tls/" .file))) -}}
  {{- end -}}
{{- end -}}
{{- if and $tls (not $reads) -}}
  {{- fail `tls: the configuration does not read the certificate (add to options or a listener: "key": "file:///tls/tls.key", "cert": "file:///tls/tls.crt")` -}}
{{- end -}}

{{- $writable := list "/tmp" (default $facts.spool.captures $facts.spool.folder) -}}
{{- range .extraVolumeMounts -}}{{- if not .readOnly -}}{{- $writable = append $writable .mountPath -}}{{- end -}}{{- end -}}
{{- range $one := $facts.folders -}}
  {{- $mounted := false -}}
  {{- range $writable -}}{{- if hasPrefix (printf "%s/" (clean .)) (printf "%s/" $one.folder) -}}{{- $mounted = true -}}{{- end -}}{{- end -}}
  {{- if not $mounted -}}
    {{- fail (printf "config: %s: no volume is mounted at %s, and the container's disk is read-only (add one to extraVolumes and extraVolumeMounts)" .path .folder) -}}
  {{- end -}}
{{- end -}}

{{- if and (or .serviceMonitor.enabled .prometheusRule.enabled) (not $facts.metrics) -}}
  {{- fail `serviceMonitor, prometheusRule: the configuration serves no metrics (add "prometheus": {"portNumber": 9090})` -}}
{{- end -}}

{{- if .loadBalancer.enabled -}}
  {{- if not .loadBalancer.listeners -}}
    {{- fail (printf "loadBalancer.listeners: is missing (name some of: %s)" (join ", " $reachable)) -}}
  {{- end -}}
  {{- range $wanted := .loadBalancer.listeners -}}
    {{- if not (has (toString $wanted) $reachable) -}}
      {{- fail (printf "loadBalancer.listeners: %v is no listener that others reach (name some of: %s)" $wanted (join ", " $reachable)) -}}
    {{- end -}}
    {{- range $facts.listeners -}}
      {{- if eq .name (toString $wanted) -}}
        {{- if and $.root.Values.loadBalancer.proxyProtocol (not .proxies) -}}
          {{- fail (printf "loadBalancer.proxyProtocol: listener %s trusts %s (set its useProxy to the balancer's addresses, such as [\"10.0.0.0/16\"])" .name (ternary "every address" "no PROXY header" .proxy)) -}}
        {{- else if and .proxy (not $.root.Values.loadBalancer.proxyProtocol) -}}
          {{- fail (printf "loadBalancer.listeners: listener %s expects PROXY headers (set loadBalancer.proxyProtocol, or take useProxy away)" .name) -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and .test.to .test.user (not .test.password.name) -}}
  {{- fail "test.password: is missing (name the Secret and key of the password)" -}}
{{- end -}}
{{- end -}}
{{- end -}}
