{{/* The name of everything here: the release's, with the chart's where it does not say it itself. */}}
{{- define "crossfade.fullname" -}}
{{- if contains "crossfade" .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-crossfade" .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects our pods: it can never change for a release. */}}
{{- define "crossfade.selector" -}}
app.kubernetes.io/name: crossfade
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "crossfade.labels" -}}
{{ include "crossfade.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* A digest follows the name with @, a tag with a colon. */}}
{{- define "crossfade.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- printf "%s%s%s" .Values.image.repository (ternary "@" ":" (hasPrefix "sha256:" $tag)) $tag -}}
{{- end -}}

{{/* The rules, with your numbers and your address of the runbooks. A threshold that does not exist is a mistake. */}}
{{- define "crossfade.rules" -}}
{{- $rules := .Files.Get "files/alerts.yml" -}}
{{- range $name, $number := .Values.monitoring.rules.thresholds -}}
{{- $line := printf "name: %s}, expr: vector\\([^)]*\\)" $name -}}
{{- if not (regexMatch $line $rules) -}}
{{- fail (printf "monitoring.rules.thresholds: the rules have no threshold %s" $name) -}}
{{- end -}}
{{- $rules = regexReplaceAll $line $rules (printf "name: %s}, expr: vector(%v)" $name $number) -}}
{{- end -}}
{{- with .Values.monitoring.rules.runbookBase -}}
{{- $rules = replace "runbook_url: docs/" (printf "runbook_url: %s/docs/" (trimSuffix "/" .)) $rules -}}
{{- end -}}
{{- $rules -}}
{{- end -}}
