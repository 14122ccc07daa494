{{/* A validation: an operator writes in the namespaces of sessions alone. */}}
{{- define "af-operator.whereSessionsAre" -}}
{{- $namespaces := include "af-operator.namespaces" . | fromJsonArray }}
{{- if $namespaces -}}
- expression: request.namespace in {{ toJson $namespaces }}
{{- else -}}
- expression: >-
    !request.namespace.startsWith('kube-') && request.namespace != {{ squote .Release.Namespace }}
{{- end }}
  reason: Forbidden
  messageExpression: >-
    "the operator writes nothing in namespace '" + request.namespace + "': it holds no sessions
    {{- if $namespaces }} (watchNamespaces){{ else }}, as kube-* and the operator's own do not{{ end }}"
{{- end }}
