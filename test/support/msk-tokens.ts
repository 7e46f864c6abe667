import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** The JDK's compiler is there. A broker alone needs only a JRE. */
export const hasJavac = spawnSync('javac', ['-version']).error === undefined

/**
 * Compiles a validator of MSK's tokens for a broker of a test. It takes a token that is a request for `kafka-cluster:Connect` in this region, which has not
 * ended, and whose time is in whole seconds. It cannot check the signature: only AWS can.
 * @param classpath Kafka's jars.
 * @returns the name of the class, and the flag by which a JVM finds it beside Kafka's jars.
 */
export function compileMskValidator(
  folder: string,
  classpath: string,
  region: string,
): { className: string; jvmFlag: string } {
  const classes = join(folder, 'classes')
  mkdirSync(classes)
  const file = join(folder, 'MskTokens.java')
  writeFileSync(file, source.replaceAll('{region}', region))
  run('javac', '-cp', classpath, '-d', classes, file)
  const manifest = join(folder, 'manifest')
  writeFileSync(manifest, 'Premain-Class: MskTokens\n')
  const jar = join(folder, 'msk-tokens.jar')
  run('jar', 'cfm', jar, manifest, '-C', classes, '.')
  // An agent is on the class path of its JVM. This one does nothing else.
  return { className: 'MskTokens', jvmFlag: `-javaagent:${jar}` }
}

function run(command: string, ...argv: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, argv, { encoding: 'utf8' })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${command} ended with ${status}: ${stderr}`)
}

const source = `
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.*;
import javax.security.auth.callback.*;
import javax.security.auth.login.AppConfigurationEntry;
import org.apache.kafka.common.security.auth.AuthenticateCallbackHandler;
import org.apache.kafka.common.security.oauthbearer.*;

public class MskTokens implements AuthenticateCallbackHandler {
  public static void premain(String args) {}
  public void configure(Map<String, ?> configs, String mechanism, List<AppConfigurationEntry> entries) {}
  public void close() {}

  public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
    for (Callback each : callbacks) {
      if (each instanceof OAuthBearerValidatorCallback) {
        OAuthBearerValidatorCallback callback = (OAuthBearerValidatorCallback) each;
        try {
          callback.token(read(callback.tokenValue()));
        } catch (RuntimeException flaw) {
          callback.error("invalid_token: " + flaw.getMessage(), null, null);
        }
      } else if (!(each instanceof OAuthBearerExtensionsValidatorCallback)) throw new UnsupportedCallbackException(each);
    }
  }

  private static OAuthBearerToken read(String value) {
    URI url = URI.create(new String(Base64.getUrlDecoder().decode(value), StandardCharsets.UTF_8));
    Map<String, String> query = new HashMap<>();
    for (String pair : url.getQuery().split("&")) query.put(pair.split("=", 2)[0], pair.split("=", 2)[1]);
    String[] scope = query.get("X-Amz-Credential").split("/");
    expect("kafka.{region}.amazonaws.com".equals(url.getHost()), "host");
    expect("kafka-cluster:Connect".equals(query.get("Action")), "action");
    expect("{region}".equals(scope[2]) && "kafka-cluster".equals(scope[3]), "scope");
    expect(query.get("X-Amz-Signature").matches("[0-9a-f]{64}"), "signature");
    long from = LocalDateTime.parse(query.get("X-Amz-Date"), DateTimeFormatter.ofPattern("yyyyMMdd'T'HHmmss'Z'"))
        .toInstant(ZoneOffset.UTC).toEpochMilli();
    long until = from + 1000 * Long.parseLong(query.get("X-Amz-Expires"));
    expect(System.currentTimeMillis() < until, "it has ended");
    return new OAuthBearerToken() {
      public String value() { return value; }
      public Set<String> scope() { return Collections.emptySet(); }
      public long lifetimeMs() { return until; }
      public String principalName() { return scope[0]; }
      public Long startTimeMs() { return from; }
    };
  }

  private static void expect(boolean holds, String what) {
    if (!holds) throw new IllegalArgumentException(what);
  }
}
`
