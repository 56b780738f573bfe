//! `AccessService`.

use sr3_proto::wire::{
    ledger::TokenRow,
    v1::{self, access_service_server::AccessService},
};
use tonic::{Request, Response, Status};

use super::{Gate, active, gate::caller, status};

pub(super) struct Access(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AccessService for Access {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Answer<v1::CreateTokenResponse> {
        let by = caller(&request)?;
        let v1::CreateTokenRequest { id, name, role, sha256, lifetime_ms } = request.into_inner();
        let created_ms = self.0.clock.wall_ms();
        let expires_ms = if lifetime_ms == 0 { 0 } else { created_ms.saturating_add(lifetime_ms) };
        let created_by = by.identity();
        let row = TokenRow { name, role, sha256, created_ms, expires_ms, created_by, ..TokenRow::default() };
        let row = active(&self.0.active)?.create_token(id.clone(), row).await.map_err(status)?;
        self.0.audit.did(&by, "create token", &format!("{id} ({}, role {})", row.name, row.role));
        Ok(Response::new(v1::CreateTokenResponse { token: Some(token(id, row)) }))
    }

    async fn list_tokens(&self, _: Request<v1::ListTokensRequest>) -> Answer<v1::ListTokensResponse> {
        let tokens = active(&self.0.active)?.tokens().list();
        let tokens = tokens.into_iter().map(|(id, row)| token(id, row)).collect();
        Ok(Response::new(v1::ListTokensResponse { tokens }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Answer<v1::RevokeTokenResponse> {
        let by = caller(&request)?;
        let id = request.into_inner().id;
        let row = active(&self.0.active)?.revoke_token(id.clone()).await.map_err(status)?;
        self.0.audit.did(&by, "revoke token", &format!("{id} ({})", row.name));
        Ok(Response::new(v1::RevokeTokenResponse { token: Some(token(id, row)) }))
    }
}

fn token(id: String, row: TokenRow) -> v1::Token {
    let TokenRow { name, role, created_ms, expires_ms, revoked_ms, created_by, .. } = row;
    v1::Token { id, name, role, created_ms, expires_ms, revoked_ms, created_by }
}
