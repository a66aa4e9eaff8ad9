//! Applying realms, spaces and stacks.

use super::*;

impl Controller {
    pub(super) async fn apply_scope(
        &self,
        mut wanted: AnyObject,
        mode: Mode,
        planned: &[ObjectRef],
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        if mode.dry_run && self.goes(&at)? {
            // It would be finished with first.
            return self.create_scope(wanted, mode, planned, watch).await;
        }
        if self.store.exists(&at)? {
            // What need not change is left under a shared lock, as the loop does
            // it: it must not wait for work on the cells below, nor hold it up.
            let _lock = self.store.lock(&at, LockMode::Shared, LOCK_WAIT).await?;
            // Compared again under the other lock, with what was asked for.
            let mut wanted = wanted.clone();
            let changes = self.compare_scope(&mut wanted, mode)?;
            if let Some(changes) = changes.filter(|c| c.is_empty() || mode.dry_run) {
                return self.update_scope(wanted, &changes, mode, watch).await;
            }
        }
        let _lock = self.store.lock(&at, LockMode::Exclusive, LOCK_WAIT).await?;
        self.refuse_if_parent_goes(&at)?;
        match self.compare_scope(&mut wanted, mode)? {
            None => self.create_scope(wanted, mode, planned, watch).await,
            Some(changes) => self.update_scope(wanted, &changes, mode, watch).await,
        }
    }

    /// The differences to what is stored; none when nothing is. Fills `wanted`
    /// with what only the stored object knows.
    fn compare_scope(&self, wanted: &mut AnyObject, mode: Mode) -> Result<Option<Vec<Change>>> {
        let at = wanted.at();
        let Some(current) = self.stored(&at)? else {
            return match mode.expected {
                Some(_) => Err(Error::changed(&at)),
                None => Ok(None),
            };
        };
        if mode.create_only {
            return Err(exists(&at));
        }
        self.refuse_if_parent_goes(&at)?;
        refuse_deleted(&at, current.meta())?;
        if mode
            .expected
            .is_some_and(|g| g != current.meta().generation)
        {
            return Err(Error::changed(&at));
        }
        apply::inherit(&current, wanted);
        let changes = match (&current, wanted) {
            (AnyObject::Realm(a), AnyObject::Realm(b)) => apply::diff_realm(a, b),
            (AnyObject::Space(a), AnyObject::Space(b)) => apply::diff_space(a, b),
            (AnyObject::Stack(a), AnyObject::Stack(b)) => apply::diff_stack(a, b),
            _ => Vec::new(),
        };
        refuse_immutable(&at, &changes)?;
        Ok(Some(changes))
    }

    pub(super) async fn create_scope(
        &self,
        mut wanted: AnyObject,
        mode: Mode,
        planned: &[ObjectRef],
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        if let AnyObject::Realm(realm) = &wanted {
            self.refuse_foreign_namespace(realm).await?;
        }
        if mode.dry_run {
            let plan = plan_scope(&at, &Meta::default(), &ObservedScope::default());
            return Ok(Applied::new("created", Vec::new(), plan.describe(&at)));
        }
        let above = at
            .parent()
            .is_none_or(|p| planned.contains(&p) || self.known(&p));
        if !above {
            return Err(not_found(&at));
        }
        stamp_new(meta_mut(&mut wanted));
        let _pool = match &mut wanted {
            AnyObject::Space(space) if space.spec.cni_config_path.is_none() => {
                let guard = self.store.lock_pool(LOCK_WAIT).await?;
                self.allocate_network(space).await?;
                Some(guard)
            }
            _ => None,
        };
        self.put(&wanted)?;
        match self.reconcile_scope(&at, watch).await {
            Ok(outcome) => Ok(Applied::new("created", Vec::new(), outcome.steps)),
            Err(error) => {
                meta_mut(&mut wanted).deletion = Some(jiff::Timestamp::now());
                self.put(&wanted)?;
                self.take_back(self.reconcile_scope(&at, &Watch::default()).await, &at);
                Err(error)
            }
        }
    }

    async fn update_scope(
        &self,
        mut wanted: AnyObject,
        changes: &[Change],
        mode: Mode,
        watch: &Watch,
    ) -> Result<Applied> {
        let at = wanted.at();
        let parents = self.parents(&at)?;
        let observed = self.observe_scope(&at, &parents).await?;
        let plan = plan_scope(&at, wanted.meta(), &observed);
        if changes.is_empty() && plan.is_empty() {
            return Ok(Applied::new("unchanged", Vec::new(), Vec::new()));
        }
        if !mode.dry_run {
            if !changes.is_empty() {
                meta_mut(&mut wanted).generation += 1;
                self.put(&wanted)?;
            }
            self.reconcile_scope(&at, watch).await?;
        }
        Ok(Applied::new("updated", texts(changes), plan.describe(&at)))
    }

    /// A containerd namespace that somebody else made is not taken over: a
    /// later deletion of the realm would drain it.
    pub(super) async fn refuse_foreign_namespace(&self, realm: &Realm) -> Result<()> {
        let namespace = self.settings.namespace(realm);
        let namespaces = self.runtime.namespaces().await?;
        let ours = self.settings.instance();
        match namespaces.get(&namespace) {
            Some(labels) if labels.get(label::INSTANCE) != Some(&ours) => Err(Error::new(
                Code::Conflict,
                "NamespaceTaken",
                format!(
                    "{}: containerd namespace {namespace:?} exists and does not belong to this kukeon",
                    realm.at
                ),
            )
            .hint("choose another `spec.namespace`, or another containerdNamespaceSuffix")),
            _ => Ok(()),
        }
    }

    /// Gives a new space its subnet, and a uid whose bridge name is free.
    pub(super) async fn allocate_network(&self, space: &mut Space) -> Result<()> {
        let mut used = Vec::new();
        let mut uids = Vec::new();
        for realm in self.store.realms()? {
            for at in self.store.spaces(&realm)? {
                if let Some(other) = self.store.space(&at)? {
                    let network = self.space_network(&other);
                    used.extend(network.subnet);
                    uids.push(network.bridge());
                }
            }
        }
        while uids.contains(&self.space_network(space).bridge()) {
            space.meta.uid = uuid::Uuid::new_v4().to_string();
        }
        let subnet = self
            .network
            .allocate_subnet(self.settings.pod_subnet, &used)
            .await?;
        space.status.network.subnet = subnet.to_string();
        Ok(())
    }
}
