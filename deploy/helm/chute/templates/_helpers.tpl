{{- define "chute.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 52 characters, so that names with something behind it fit 63. */}}
{{- define "chute.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "chute.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "chute.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "chute.selector" -}}
app.kubernetes.io/name: {{ include "chute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "chute.labels" -}}
{{ include "chute.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "chute.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "chute.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "chute.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "chute.configMap" -}}
{{- default (include "chute.fullname" .) .Values.existingConfigMap -}}
{{- end -}}

{{/* The Secret with the keys of clients; empty: there are none. */}}
{{- define "chute.keysSecret" -}}
{{- if .Values.keys.existingSecret -}}
{{- .Values.keys.existingSecret -}}
{{- else if .Values.keys.entries -}}
{{- printf "%s-keys" (include "chute.fullname" .) -}}
{{- end -}}
{{- end -}}

{{/* What a chart can tell before a pod fails. */}}
{{- define "chute.check" -}}
{{- if not .Values.kafka.brokers -}}
{{- fail "kafka.brokers is empty. Give the bootstrap brokers: kafka.brokers={kafka-0:9092,kafka-1:9092}" -}}
{{- end -}}
{{- if and .Values.kafka.sasl.mechanism (not .Values.kafka.sasl.secret) -}}
{{- fail "kafka.sasl.mechanism is set, and kafka.sasl.secret is empty. Name the Secret with the password." -}}
{{- end -}}
{{- if and (not (include "chute.keysSecret" .)) (not .Values.open) -}}
{{- fail "The gateway needs keys, or it does not start. Give keys.entries or keys.existingSecret (make a key with `chute keys new`), or say open=true where only programs that may write can reach it." -}}
{{- end -}}
{{- if eq (int .Values.adminPort) 8080 -}}
{{- fail "adminPort is 8080, which is the port of events in the pod. Take another one." -}}
{{- end -}}
{{- if and .Values.tls.enabled (not .Values.tls.secret) -}}
{{- fail "tls.enabled is set, and tls.secret is empty. Name a Secret of type kubernetes.io/tls." -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled is set, and ingress.hosts is empty." -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled is set, and httpRoute.parentRefs is empty. Name the Gateway." -}}
{{- end -}}
{{- end -}}

{{- define "chute.spoolDrainMs" -}}
{{- ternary (int .Values.shutdown.spoolDrainTimeoutMs) 0 .Values.persistence.enabled -}}
{{- end -}}

{{/* Longer than everything that happens after SIGTERM, so that nothing is cut off. */}}
{{- define "chute.gracePeriodSeconds" -}}
{{- $ms := add (int .Values.shutdown.drainDelayMs) (int .Values.shutdown.timeoutMs) (int (include "chute.spoolDrainMs" .)) -}}
{{- add (div (add $ms 999) 1000) (int .Values.shutdown.preStopSleepSeconds) (int .Values.shutdown.marginSeconds) -}}
{{- end -}}

{{/* Helm reads the numbers of a values file as floats, and writes large ones as 1e+06. */}}
{{- define "chute.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{- define "chute.env" -}}
- { name: HOST, value: {{ .Values.host | quote }} }
- { name: PORT, value: '8080' }
- { name: ADMIN_PORT, value: {{ .Values.adminPort | quote }} }
- { name: WORKERS, value: {{ .Values.workers | quote }} }
{{- if .Values.trustProxy }}
- { name: TRUST_PROXY, value: {{ .Values.trustProxy | quote }} }
{{- end }}
- { name: LOG_FORMAT, value: {{ .Values.logFormat }} }
- { name: LOG_LEVEL_FILE, value: /etc/chute/process/log-level }
- { name: CORS_ORIGINS_FILE, value: /etc/chute/process/cors-origins }
{{- if or .Values.config .Values.existingConfigMap }}
- { name: CHUTE_CONFIG, value: /etc/chute/config/chute.yaml }
{{- end }}
{{- if include "chute.keysSecret" . }}
- { name: CHUTE_KEYS_FILE, value: /etc/chute/keys/keys.yaml }
{{- end }}
{{- if .Values.open }}
- { name: CHUTE_OPEN, value: 'true' }
{{- end }}
- { name: DRAIN_DELAY_MS, value: {{ int64 .Values.shutdown.drainDelayMs | quote }} }
- { name: SHUTDOWN_TIMEOUT_MS, value: {{ int64 .Values.shutdown.timeoutMs | quote }} }
{{- if .Values.persistence.enabled }}
- { name: CHUTE_DATA_DIR, value: /data }
- { name: SPOOL_DRAIN_TIMEOUT_MS, value: {{ include "chute.spoolDrainMs" . | quote }} }
{{- end }}
{{- if .Values.tls.enabled }}
- { name: TLS_CERT_FILE, value: /etc/chute/tls/tls.crt }
- { name: TLS_KEY_FILE, value: /etc/chute/tls/tls.key }
{{- if .Values.tls.clientCa.secret }}
- { name: TLS_CLIENT_CA_FILE, value: {{ printf "/etc/chute/tls-client-ca/%s" .Values.tls.clientCa.key | quote }} }
{{- end }}
{{- end }}
{{- with include "chute.settingsEnv" . | trim }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "chute.settingsEnv" -}}
{{- range $name, $value := .Values.settings }}
- { name: {{ $name }}, value: {{ include "chute.text" $value | quote }} }
{{- end }}
{{- end -}}

{{- define "chute.kafkaEnv" -}}
- { name: KAFKA_BROKERS, value: {{ join "," .Values.kafka.brokers | quote }} }
- { name: KAFKA_CLIENT_ID, value: {{ .Values.kafka.clientId | quote }} }
- { name: KAFKA_CREATE_TOPICS, value: {{ .Values.kafka.createTopics | quote }} }
{{- with .Values.kafka.tls }}
{{- if .enabled }}
- { name: KAFKA_SSL, value: 'true' }
{{- if .ca.secret }}
- { name: KAFKA_SSL_CA_FILE, value: {{ printf "/etc/chute/kafka-ca/%s" .ca.key | quote }} }
{{- end }}
{{- if .client.secret }}
- { name: KAFKA_SSL_CERT_FILE, value: {{ printf "/etc/chute/kafka-client/%s" .client.certKey | quote }} }
- { name: KAFKA_SSL_KEY_FILE, value: {{ printf "/etc/chute/kafka-client/%s" .client.keyKey | quote }} }
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
- { name: KAFKA_SASL_MECHANISM, value: {{ .mechanism | quote }} }
{{- if .username }}
- { name: KAFKA_SASL_USERNAME, value: {{ .username | quote }} }
{{- else }}
- { name: KAFKA_SASL_USERNAME_FILE, value: {{ printf "/etc/chute/kafka-sasl/%s" .usernameKey | quote }} }
{{- end }}
- { name: KAFKA_SASL_PASSWORD_FILE, value: {{ printf "/etc/chute/kafka-sasl/%s" .passwordKey | quote }} }
{{- end }}
{{- end }}
{{- end -}}

{{/* Folders, never single files (subPath): only a folder follows a change of its ConfigMap or Secret. */}}
{{- define "chute.mounts" -}}
{{- if or .Values.config .Values.existingConfigMap }}
- { name: config, mountPath: /etc/chute/config, readOnly: true }
{{- end }}
{{- if include "chute.keysSecret" . }}
- { name: keys, mountPath: /etc/chute/keys, readOnly: true }
{{- end }}
{{- if .Values.kafka.tls.enabled }}
{{- if .Values.kafka.tls.ca.secret }}
- { name: kafka-ca, mountPath: /etc/chute/kafka-ca, readOnly: true }
{{- end }}
{{- if .Values.kafka.tls.client.secret }}
- { name: kafka-client, mountPath: /etc/chute/kafka-client, readOnly: true }
{{- end }}
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
- { name: kafka-sasl, mountPath: /etc/chute/kafka-sasl, readOnly: true }
{{- end }}
{{- end -}}

{{- define "chute.volumes" -}}
{{- if or .Values.config .Values.existingConfigMap }}
- { name: config, configMap: { name: {{ include "chute.configMap" . }} } }
{{- end }}
{{- with include "chute.keysSecret" . }}
- { name: keys, secret: { secretName: {{ . }} } }
{{- end }}
{{- if .Values.kafka.tls.enabled }}
{{- with .Values.kafka.tls.ca.secret }}
- { name: kafka-ca, secret: { secretName: {{ . }} } }
{{- end }}
{{- with .Values.kafka.tls.client.secret }}
- { name: kafka-client, secret: { secretName: {{ . }} } }
{{- end }}
{{- end }}
{{- if .Values.kafka.sasl.mechanism }}
- { name: kafka-sasl, secret: { secretName: {{ .Values.kafka.sasl.secret }} } }
{{- end }}
{{- end -}}
