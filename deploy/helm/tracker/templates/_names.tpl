{{- define "tracker.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "tracker.metadataLabels" -}}
{{ include "tracker.labels" . }}
app.kubernetes.io/part-of: tracker
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "tracker.image" -}}
{{ printf "%s:%s" .image.repository (.image.tag | default .root.Chart.AppVersion) }}
{{- end -}}

{{- define "tracker.serverName" -}}
{{ printf "%s-server" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}

{{- define "tracker.agentName" -}}
{{ printf "%s-agent" .Release.Name | trunc 52 | trimSuffix "-" }}
{{- end -}}

{{- define "tracker.serverUrl" -}}
{{- if .Values.agent.serverUrl -}}
{{ .Values.agent.serverUrl }}
{{- else if .Values.server.enabled -}}
{{ printf "http://%s.%s.svc:%v" (include "tracker.serverName" .) .Release.Namespace .Values.server.port }}
{{- else -}}
{{ fail "agent.serverUrl: where is the server? It is not installed by this release (server.enabled is false)" }}
{{- end -}}
{{- end -}}
