//! OpenMLS over its Rust crypto and its memory storage, which it writes to, as JSON, with every change of state.

use openmls::prelude::tls_codec::{Deserialize, Serialize};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use crate::{Fallible, Library, Sent};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

pub struct Openmls;

pub struct Member {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    name: String,
    group: Option<MlsGroup>,
}

impl Member {
    fn identity(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(self.name.clone().into_bytes()).into(),
            signature_key: self.signer.to_public_vec().into(),
        }
    }

    fn group(&mut self) -> Fallible<(&mut MlsGroup, &OpenMlsRustCrypto, &SignatureKeyPair)> {
        Ok((self.group.as_mut().ok_or("in no group")?, &self.provider, &self.signer))
    }
}

fn config() -> MlsGroupCreateConfig {
    MlsGroupCreateConfig::builder()
        .ciphersuite(SUITE)
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .padding_size(0)
        .use_ratchet_tree_extension(true)
        .build()
}

impl Library for Openmls {
    type Member = Member;

    fn client(&self, name: &str) -> Fallible<Member> {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        Ok(Member { provider: OpenMlsRustCrypto::default(), signer, name: name.into(), group: None })
    }

    fn copy(&self, member: &Member) -> Fallible<Member> {
        let provider = OpenMlsRustCrypto::default();
        let values = member.provider.storage().values.read().map_err(|_| "poisoned")?.clone();
        *provider.storage().values.write().map_err(|_| "poisoned")? = values;
        let group = match &member.group {
            Some(group) => MlsGroup::load(provider.storage(), group.group_id())?,
            None => None,
        };
        let signer = SignatureKeyPair::tls_deserialize_exact(member.signer.tls_serialize_detached()?)?;
        Ok(Member { provider, signer, name: member.name.clone(), group })
    }

    fn key_package(&self, member: &Member) -> Fallible<Vec<u8>> {
        let bundle = KeyPackage::builder().build(SUITE, &member.provider, &member.signer, member.identity())?;
        Ok(MlsMessageOut::from(bundle.into_key_package()).to_bytes()?)
    }

    fn create(&self, member: &mut Member) -> Fallible<()> {
        member.group = Some(MlsGroup::new(&member.provider, &member.signer, &config(), member.identity())?);
        Ok(())
    }

    fn commit(&self, member: &mut Member, adds: &[Vec<u8>], path: bool) -> Fallible<Sent> {
        let (group, provider, signer) = member.group()?;
        let mut packages = Vec::with_capacity(adds.len());
        for bytes in adds {
            match MlsMessageIn::tls_deserialize_exact(bytes)?.extract() {
                MlsMessageBodyIn::KeyPackage(each) => {
                    packages.push(each.validate(provider.crypto(), ProtocolVersion::Mls10)?)
                }
                _ => return Err("not a key package".into()),
            }
        }
        let bundle = group
            .commit_builder()
            .force_self_update(path)
            .propose_adds(packages)
            .load_psks(provider.storage())?
            .build(provider.rand(), provider.crypto(), signer, |_| true)?
            .stage_commit(provider)?;
        let commit = bundle.commit().to_bytes()?;
        let welcome = bundle.to_welcome_msg().map(|each| each.to_bytes()).transpose()?;
        group.merge_pending_commit(provider)?;
        Ok(Sent { commit, welcome })
    }

    fn process(&self, member: &mut Member, commit: &[u8]) -> Fallible<()> {
        let (group, provider, _) = member.group()?;
        let message = MlsMessageIn::tls_deserialize_exact(commit)?.try_into_protocol_message()?;
        match group.process_message(provider, message)?.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => Ok(group.merge_staged_commit(provider, *staged)?),
            _ => Err("not a commit".into()),
        }
    }

    fn join(&self, member: &mut Member, welcome: &[u8]) -> Fallible<()> {
        let MlsMessageBodyIn::Welcome(welcome) = MlsMessageIn::tls_deserialize_exact(welcome)?.extract() else {
            return Err("not a Welcome".into());
        };
        let staged = StagedWelcome::new_from_welcome(&member.provider, config().join_config(), welcome, None)?;
        member.group = Some(staged.into_group(&member.provider)?);
        Ok(())
    }

    fn send(&self, member: &mut Member, text: &[u8]) -> Fallible<Vec<u8>> {
        let (group, provider, signer) = member.group()?;
        Ok(group.create_message(provider, signer, text)?.to_bytes()?)
    }

    fn receive(&self, member: &mut Member, message: &[u8]) -> Fallible<Vec<u8>> {
        let (group, provider, _) = member.group()?;
        let message = MlsMessageIn::tls_deserialize_exact(message)?.try_into_protocol_message()?;
        match group.process_message(provider, message)?.into_content() {
            ProcessedMessageContent::ApplicationMessage(text) => Ok(text.into_bytes()),
            _ => Err("not an application message".into()),
        }
    }

    fn state(&self, member: &mut Member) -> Fallible<usize> {
        let values = member.provider.storage().values.read().map_err(|_| "poisoned")?;
        Ok(values.iter().map(|(key, value)| key.len() + value.len()).sum())
    }
}
