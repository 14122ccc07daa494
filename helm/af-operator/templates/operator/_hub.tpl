{{/* Which JupyterHub the operator shows sessions in: this chart's, one from outside, or none (an empty apiUrl). */}}
{{- define "af-operator.hubApi" -}}
{{- $hub := .Values.hub }}
{{- if $hub.enabled }}
{{- if $hub.external.apiUrl }}
{{- fail "hub.external.apiUrl is for a JupyterHub that is not this chart's: leave it out, or set hub.enabled=false" }}
{{- end }}
{{- dict "apiUrl" (printf "%s%shub/api" (include "af-operator.hubUrl" .) $hub.baseUrl) "baseUrl" $hub.baseUrl
         "account" (include "af-operator.hubAccount" .) "secret" (include "af-operator.hubSecret" .) "key" "operator-token" | toYaml }}
{{- else if $hub.external.apiUrl }}
{{- $secret := required "hub.external.tokenSecret.name is needed with hub.external.apiUrl: a Secret with the token of a service of that JupyterHub" $hub.external.tokenSecret.name }}
{{- $account := required "hub.external.account is needed with hub.external.apiUrl: who that JupyterHub is for the API server, such as system:serviceaccount:jupyterhub:hub; it gets the right to read the token of each notebook" $hub.external.account }}
{{- dict "apiUrl" $hub.external.apiUrl "account" $account "baseUrl" $hub.external.baseUrl
         "secret" $secret "key" $hub.external.tokenSecret.key | toYaml }}
{{- else }}
{{- dict "apiUrl" "" | toYaml }}
{{- end }}
{{- end }}
