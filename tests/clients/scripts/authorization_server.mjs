// An authorization server on this machine. It is read from stdin, in the folder of its packages:
//     node --input-type=module - PORT SCOPES < authorization_server.mjs
import { Provider } from 'oidc-provider'

const [port, scope] = process.argv.slice(2)
const provider = new Provider(`http://127.0.0.1:${port}`, {
  scopes: ['openid', 'offline_access', ...scope.split(' ')],
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: true }, // its own forms for signing in and for consent
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope,
        audience: resource,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 600,
      }),
    },
  },
})
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'))
