//! Objects that were not written by us.

use super::*;
use crate::model::{AnyObject, Cell, RestartPolicy, RunState};

fn convert(text: &str, partial: bool) -> Result<Converted> {
    from_kubernetes(&[("k.yaml", text.as_bytes())], &Scope::default(), partial)
}

fn cells(text: &str) -> Vec<Cell> {
    let objects = crate::apply::read(&[("out", text.as_bytes())]).unwrap();
    let cell = |(_, object)| match object {
        AnyObject::Cell(cell) => Some(cell),
        _ => None,
    };
    objects.into_iter().filter_map(cell).collect()
}

fn losses(text: &str) -> Vec<String> {
    let converted = convert(text, true).unwrap_or_else(|e| panic!("{e}"));
    converted.losses.iter().map(Loss::line).collect()
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web, tier: front}}
    spec:
      securityContext: {runAsUser: 1000, runAsGroup: 1000}
      containers:
        - name: app
          image: nginx
          command: [sh, -c]
          args: ['echo $(A) $$(A) $(NONE)']
          ports: [{name: http, containerPort: 8080}]
          envFrom: [{configMapRef: {name: conf}, prefix: P_}]
          env:
            - {name: A, value: a}
            - {name: B, value: $(A)-$(P_x)}
            - {name: C, valueFrom: {configMapKeyRef: {name: conf, key: y}}}
          resources: {limits: {memory: 64Mi}, requests: {cpu: 250m, memory: 1Mi}}
          volumeMounts: [{name: host, mountPath: /h, readOnly: true}, {name: mem, mountPath: /m}]
      volumes:
        - {name: host, hostPath: {path: /srv}}
        - {name: mem, emptyDir: {medium: Memory, sizeLimit: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http, nodePort: 30080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, namespace: shop}
data: {x: 'one', y: 'two $(A)'}
";

#[test]
fn a_deployment_with_what_it_needs() {
    let converted = convert(WEB, false).unwrap_or_else(|e| panic!("{e}"));
    let cell = cells(&converted.text).remove(0);
    assert_eq!(cell.at.to_string(), "cell \"web\" in shop/default/default");
    assert_eq!(cell.meta.labels["tier"], "front");
    assert_eq!(cell.meta.annotations[super::super::PORTS], "30080:8080");
    let spec = &cell.spec.containers[0];
    assert_eq!(spec.restart_policy, RestartPolicy::Always);
    assert_eq!(spec.command.as_deref(), Some("sh"));
    assert_eq!(spec.args, ["-c", "echo a $(A) $(NONE)"]);
    assert_eq!(
        spec.env,
        ["P_x=one", "P_y=two $(A)", "A=a", "B=a-one", "C=two $(A)"]
    );
    assert_eq!(spec.user.as_deref(), Some("1000:1000"));
    assert_eq!(spec.pull_policy, crate::model::PullPolicy::Always);
    assert_eq!(spec.stop_grace_seconds, Some(30));
    assert_eq!(spec.security.no_new_privileges, Some(false));
    assert_eq!(spec.resources.memory_bytes, Some(64 << 20));
    assert_eq!(spec.resources.cpu_shares, Some(256));
    assert_eq!(spec.mounts.len(), 2);
}

#[test]
fn lists_scopes_and_pods() {
    let pod = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: one, uid: x, creationTimestamp: null}\n  spec: {restartPolicy: Never, containers: [{name: a, image: 'x:1'}]}\n  status: {phase: Running}\n";
    let scope = Scope {
        realm: Some("r".parse().unwrap()),
        space: Some("s".parse().unwrap()),
        stack: Some("t".parse().unwrap()),
    };
    let converted = from_kubernetes(&[("k", pod.as_bytes())], &scope, false).unwrap();
    let kinds: Vec<_> = crate::apply::read(&[("out", converted.text.as_bytes())])
        .unwrap()
        .into_iter()
        .map(|(_, o)| o.kind())
        .collect();
    assert_eq!(kinds, ["Realm", "Space", "Stack", "Cell"]);
    let cell = cells(&converted.text).remove(0);
    assert_eq!(cell.at.to_string(), "cell \"one\" in r/s/t");
    assert_eq!(cell.spec.containers[0].restart_policy, RestartPolicy::Never);
    let stopped = WEB.replace("replicas: 1", "replicas: 0");
    let cell = cells(&convert(&stopped, false).unwrap().text).remove(0);
    assert_eq!(cell.spec.run_state, RunState::Stopped);
}

#[test]
fn a_job_with_a_container_beside_it() {
    let job = "\
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec:
  backoffLimit: 2
  template:
    spec:
      restartPolicy: OnFailure
      initContainers: [{name: log, image: 'l:1', restartPolicy: Always}]
      containers: [{name: work, image: 'w:1'}]
";
    let cell = cells(&convert(job, false).unwrap().text).remove(0);
    let [log, work] = &cell.spec.containers[..] else {
        panic!("{cell:?}")
    };
    assert_eq!(
        (log.restart_policy, log.root),
        (RestartPolicy::Always, false)
    );
    assert_eq!(
        (work.restart_policy, work.root),
        (RestartPolicy::OnFailure, true)
    );
    assert_eq!(work.restart_max_retries, Some(2));
    let lost = losses(&job.replace(", restartPolicy: Always}", "}"));
    assert!(
        lost.len() == 1 && lost[0].contains("no init containers"),
        "{lost:#?}"
    );
}

#[test]
fn logins_become_those_of_the_realm() {
    let text = "\
apiVersion: v1
kind: Secret
metadata: {name: pull, namespace: shop}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpwOnc=\"}}}'}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {imagePullSecrets: [{name: pull}], containers: [{name: a, image: 'x:1'}]}
";
    let converted = convert(text, false).unwrap_or_else(|e| panic!("{e}"));
    for word in ["serverAddress: docker.io", "username: u", "password: p:w"] {
        assert!(converted.text.contains(word), "{}", converted.text);
    }
    let lost = losses(&text.replace("[{name: pull}]", "[{name: other}]"));
    assert!(
        lost.len() == 1 && lost[0].contains("is not in the input"),
        "{lost:#?}"
    );
}

#[test]
fn what_has_no_equivalent_is_named() {
    for (from, to, words) in [
        (
            "replicas: 1",
            "replicas: 3",
            "k.yaml:5:3: spec.replicas: a cell runs once, not 3 times",
        ),
        (
            "          image: nginx\n",
            "          image: nginx\n          livenessProbe: {httpGet: {port: 1}}\n",
            "spec.template.spec.containers[0].livenessProbe: has no equivalent; cells have no probes",
        ),
        (
            "volumes:\n",
            "volumes:\n        - {name: s, secret: {secretName: x}}\n",
            "volumes[0].secret: the keys of the Secret \"x\" are not known",
        ),
        (
            "limits: {memory: 64Mi}",
            "limits: {memory: 64Mi, cpu: 1}",
            "use requests.cpu",
        ),
        (
            "      containers:\n",
            "      nodeSelector: {a: b}\n      containers:\n",
            "there is one machine",
        ),
        ("medium: Memory, ", "", "on disk has no equivalent"),
        (
            "metadata: {name: web, namespace: shop}",
            "metadata: {name: www, namespace: shop}",
            "called \"web\", and by no other name",
        ),
        (
            "labels: {app: web}}\nspec",
            "labels: {app: web, x.kukeon.io: y}}\nspec",
            "metadata.labels.x.kukeon.io: the label key",
        ),
        (
            "kind: Service",
            "kind: Ingress",
            "a Ingress has no equivalent; run a reverse proxy",
        ),
        (
            "configMapRef: {name: conf}",
            "configMapRef: {name: cnf}",
            "the ConfigMap \"cnf\" is not in the input",
        ),
    ] {
        let text = WEB.replace(from, to);
        assert_ne!(text, WEB, "{from}");
        let found = losses(&text);
        assert_eq!(found.len(), 1, "{words}: {found:#?}");
        assert!(found[0].contains(words), "{words}: {found:#?}");
        let error = crate::api::Error::from(convert(&text, false).unwrap_err());
        assert_eq!(error.reason, "NoEquivalent");
        assert!(error.message.contains("k.yaml:"), "{}", error.message);
    }
    let policy = format!(
        "{WEB}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: x, namespace: shop}}\nspec: {{podSelector: {{}}, policyTypes: [Egress]}}\n"
    );
    assert!(losses(&policy)[0].contains("only the policy that a space becomes"));
    let secret = WEB
        .replace("kind: ConfigMap", "kind: Secret")
        .replace("configMapRef", "secretRef")
        .replace("configMapKeyRef", "secretKeyRef")
        .replace("\ndata:", "\nstringData:");
    let converted = convert(&secret, false).unwrap_or_else(|e| panic!("{e}"));
    for part in [
        "kind: Secret\n",
        "  name: conf-x\n",
        "name: P_x\n",
        "secretRef:\n        name: conf-y\n",
    ] {
        assert!(converted.text.contains(part), "{part}:\n{}", converted.text);
    }
}

#[test]
fn what_is_wrong_is_refused_even_with_leave() {
    for (from, to, reason, words) in [
        (
            "image: nginx",
            "imagee: nginx",
            "UnknownField",
            "k.yaml:13:11: unknown field \"imagee\" in spec.template.spec.containers[0]; did you mean \"image\"?",
        ),
        (
            "kind: Deployment",
            "kind: Deploymnet",
            "UnknownKind",
            "did you mean \"Deployment\"?",
        ),
        (
            "replicas: 1",
            "replicas: one",
            "WrongType",
            "spec.replicas: expected a whole number",
        ),
        (
            "memory: 64Mi",
            "memory: 64MB",
            "BadValue",
            "is not a quantity",
        ),
        (
            "name: host, mountPath",
            "name: hots, mountPath",
            "BadValue",
            "no volume is called \"hots\"",
        ),
        (
            "targetPort: http",
            "targetPort: web",
            "BadValue",
            "no container has a port called",
        ),
        (
            "name: web, namespace: shop, labels",
            "name: we.b, namespace: shop, labels",
            "BadName",
            "name is invalid",
        ),
        (
            "apiVersion: apps/v1\n",
            "",
            "MissingField",
            "apiVersion and kind",
        ),
        ("image: nginx", "image: 'ngi nx'", "BadImage", "k.yaml:"),
    ] {
        let text = WEB.replace(from, to);
        assert_ne!(text, WEB, "{from}");
        let error = crate::api::Error::from(convert(&text, true).unwrap_err());
        assert_eq!(error.reason, reason, "{}", error.message);
        assert!(error.message.contains(words), "{}", error.message);
    }
}
