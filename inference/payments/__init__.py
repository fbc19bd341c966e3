"""Money: prices, the x402 shapes, channels and vouchers, exact payments, the ledger.

What a call may cost is decided by pure functions (`pricing`, `channel`, `exact`, `account`);
what was promised and charged lies in the database (`ledger`, `authorizations`); what moved lies
on chain (`channels_contract`, `token_contract`).
"""
