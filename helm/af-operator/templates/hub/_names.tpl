{{/* What the Hub, its proxy and the sessions call each other by. */}}
{{- define "af-operator.hubUrl" -}}
http://hub.{{ .Release.Namespace }}.svc:8081
{{- end }}

{{- define "af-operator.hubAccount" -}}
system:serviceaccount:{{ .Release.Namespace }}:hub
{{- end }}

{{- define "af-operator.hubSecret" -}}
{{ .Values.hub.existingSecret | default "hub" }}
{{- end }}

{{- define "af-operator.hubImage" -}}
{{ required "image.hub is needed with hub.enabled: the reference of the Hub's image, e.g. --set image.hub=registry.example.org/hub@sha256:..." .Values.image.hub }}
{{- end }}

{{/* What jupyterhub_config.py reads. It may hold a client's secret, so it lies in a Secret. */}}
{{- define "af-operator.hubValues" -}}
{{- $namespaces := .Values.hub.namespaces | default (include "af-operator.namespaces" . | fromJsonArray) }}
{{- dict "baseUrl" .Values.hub.baseUrl
         "hubUrl" (include "af-operator.hubUrl" .)
         "proxyUrl" (printf "http://proxy-api.%s.svc:8001" .Release.Namespace)
         "namespaces" $namespaces
         "limitProfiles" (not .Values.userRoles.useProfiles)
         "config" .Values.hub.config
         "extraConfig" .Values.hub.extraConfig | toYaml }}
{{- end }}
