{{- define "smtp-relay.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters: a StatefulSet's pods have a hash of 11 behind it in a label. */}}
{{- define "smtp-relay.fullname" -}}
{{- $name := include "smtp-relay.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "smtp-relay.labels" -}}
{{ include "smtp-relay.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* The relay's pods. The pod of `helm test` has another component, so that no Service leads to it. */}}
{{- define "smtp-relay.selector" -}}
app.kubernetes.io/name: {{ include "smtp-relay.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: relay
{{- end -}}

{{- define "smtp-relay.serviceAccount" -}}
{{- default (ternary (include "smtp-relay.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "smtp-relay.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret of the certificate; "" without one. */}}
{{- define "smtp-relay.tlsSecret" -}}
{{- default (ternary (printf "%s-tls" (include "smtp-relay.fullname" .)) "" (not (empty .Values.tls.certManager.issuerRef))) .Values.tls.secretName -}}
{{- end -}}

{{/* The Service's port for a listener's port. */}}
{{- define "smtp-relay.servicePort" -}}
{{- get .root.Values.service.ports (toString .port) | default .port | int -}}
{{- end -}}

{{/* What no container of this chart may do. */}}
{{- define "smtp-relay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "smtp-relay.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10025
runAsGroup: 10025
fsGroup: 10025
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The name of the volume for a Secret, whose own name may have dots. */}}
{{- define "smtp-relay.volume" -}}
{{- printf "secret-%s" (replace "." "-" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
