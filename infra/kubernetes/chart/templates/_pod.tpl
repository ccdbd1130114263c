{{/* The spec of a relay's pod. */}}
{{- define "smtp-relay.pod" -}}
{{- $facts := .facts -}}
{{- $root := .root -}}
{{- $tls := include "smtp-relay.tlsSecret" $root -}}
{{- $file := printf "/config/%s" (include "smtp-relay.file" $root) -}}
{{- $drain := ternary 0 (int $root.Values.drainSeconds) $facts.spool.bucket -}}
{{- $privileged := false -}}
{{- range $facts.listeners -}}{{- if lt (int .port) 1024 -}}{{- $privileged = true -}}{{- end -}}{{- end -}}
{{- with $root.Values -}}
serviceAccountName: {{ include "smtp-relay.serviceAccount" $root }}
automountServiceAccountToken: false
# Kubernetes would set SMTP_RELAY_PORT for a Service of the name smtp-relay, which is a variable of the relay too.
enableServiceLinks: false
# The wait below, closeTimeout, and half a minute for mail under way.
terminationGracePeriodSeconds: {{ add 5 $drain $facts.closeSeconds 30 }}
securityContext:
  {{- include "smtp-relay.podSecurity" $root | nindent 2 }}
  {{- if $privileged }}
  sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
  {{- end }}
{{- with .imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "smtp-relay.selector" $root | nindent 8 }}
containers:
  - name: relay
    image: {{ include "smtp-relay.image" $root }}
    imagePullPolicy: {{ .image.pullPolicy }}
    args: [serve, {{ $file }}]
    env:
      - name: SMTP_RELAY_DEFAULT_BIND
        value: 0.0.0.0
      - name: SMTP_RELAY_HEALTH_PORT
        value: {{ $facts.health | toString | quote }}
      {{- range $name, $value := .env }}
      - name: {{ $name }}
        value: {{ $value | toString | quote }}
      {{- end }}
      {{- range $name, $secret := .secretEnv }}
      - name: {{ $name }}
        valueFrom:
          secretKeyRef: {name: {{ $secret.name }}, key: {{ $secret.key }}}
      {{- end }}
    ports:
      {{- range $facts.listeners }}
      {{- if not .loopback }}
      - {name: smtp-{{ .port }}, containerPort: {{ .port }}}
      {{- end }}
      {{- end }}
      - {name: health, containerPort: {{ $facts.health }}}
      {{- if and $facts.metrics (ne (int $facts.metrics) (int $facts.health)) }}
      - {name: metrics, containerPort: {{ $facts.metrics }}}
      {{- end }}
    # /healthz, not /readyz: restarts do not repair a store, and clients that get 451 retry.
    startupProbe:
      httpGet: {path: /healthz, port: health}
      periodSeconds: 2
      failureThreshold: 60
    livenessProbe:
      httpGet: {path: /healthz, port: health}
      timeoutSeconds: 5
    readinessProbe:
      httpGet: {path: /healthz, port: health}
      periodSeconds: 5
      timeoutSeconds: 5
    lifecycle:
      preStop:
        exec:
          # First the Services forget this pod. Then the spool empties, if its destinations take mail.
          {{- if $drain }}
          command:
            - /bin/sh
            - -c
            - sleep 5; end=$(($(date +%s) + {{ $drain }})); while [ "$(date +%s)" -lt "$end" ] && smtp-relay queue --json -c {{ $file }} | grep -q '"state":\s*"waiting"'; do sleep 1; done
          {{- else }}
          command: [/bin/sh, -c, sleep 5]
          {{- end }}
    resources:
      {{- toYaml .resources | nindent 6 }}
    securityContext:
      {{- include "smtp-relay.containerSecurity" $root | nindent 6 }}
    volumeMounts:
      - {name: config, mountPath: /config, readOnly: true}
      - {name: tmp, mountPath: /tmp}
      {{- if $facts.spool.bucket }}
      - {name: captures, mountPath: {{ $facts.spool.captures }}}
      {{- else }}
      - {name: spool, mountPath: {{ $facts.spool.folder }}}
      {{- end }}
      {{- if $tls }}
      - {name: tls, mountPath: /tls, readOnly: true}
      {{- end }}
      {{- range $secret, $folder := .secretFiles }}
      - {name: {{ include "smtp-relay.volume" $secret }}, mountPath: {{ $folder }}, readOnly: true}
      {{- end }}
      {{- with .extraVolumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
volumes:
  - name: config
    configMap: {name: {{ include "smtp-relay.fullname" $root }}}
  - name: tmp
    emptyDir: {}
  {{- if $facts.spool.bucket }}
  # Mails that arrive, before the bucket has them and the client its 250.
  - name: captures
    emptyDir: {}
  {{- end }}
  {{- with $tls }}
  - name: tls
    secret: {secretName: {{ . }}, defaultMode: 0440}
  {{- end }}
  {{- range $secret, $folder := .secretFiles }}
  - name: {{ include "smtp-relay.volume" $secret }}
    secret: {secretName: {{ $secret }}, defaultMode: 0440}
  {{- end }}
  {{- with .extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
{{- end -}}
